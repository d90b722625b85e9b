"""tests/data holds a part of the data folder, and as it is there."""


def test_each_file_of_the_excerpt_is_as_in_the_data_folder(excerpt, shared_data):
    folders = [excerpt / name for name in ("raccoon", "zoo_configs", "odapi_files")]
    files = [path.relative_to(excerpt) for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    for file in files:
        if file.name != "test.record":  # it has some of the records
            assert (excerpt / file).read_bytes() == (shared_data / file).read_bytes(), file
