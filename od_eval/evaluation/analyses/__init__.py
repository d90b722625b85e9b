"""What the object table tells beyond AP: one module per analysis, each a pure function of the table."""
