"""How to look at the results."""

import json
import urllib.parse

from od_eval.tensorboard import command


def test_the_first_page_pins_the_losses_and_ap_without_smoothing():
    page = urllib.parse.urlsplit(command.first_page())
    query = urllib.parse.parse_qs(page.query)
    assert (page.netloc, page.fragment, query["smoothing"]) == ("localhost:6006", "timeseries", ["0"])
    assert [card["tag"] for card in json.loads(query["pinnedCards"][0])][:3] == [
        "Loss/total_loss",
        "DetectionBoxes_Precision/mAP",
        "DetectionBoxes_Precision/mAP@.50IOU",
    ]


def test_the_command_is_one_that_a_shell_understands(tmp_path):
    lines = command.how_to_look(str(tmp_path / "my runs")).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(f"tensorboard --logdir '{tmp_path}/my runs'")
    assert lines[1].endswith(command.first_page())
    assert lines[2].endswith("/#images")
