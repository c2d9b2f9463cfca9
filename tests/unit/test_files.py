"""Files appear whole."""

from lotterylib.data.files import write_whole


def test_a_file_that_is_being_read_is_replaced_not_changed(tmp_path):
    file = tmp_path / "new" / "page.html"
    write_whole(file, "before\n" * 3)
    with open(file) as reader:
        assert reader.readline() == "before\n"
        write_whole(file, "after\n")
        assert reader.read() == "before\n" * 2
    assert file.read_text() == "after\n"
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]  # no scratch stays
