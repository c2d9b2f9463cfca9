"""What takes long to make is made once for all processes of pytest."""

from filelock import FileLock


def made_once(tmp_path_factory, worker_id, name, make):
    """A folder that the first of pytest's processes to need it makes, for all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / name
    whole = folder.with_name(f"{name}.whole")
    with FileLock(f"{folder}.lock"):
        if not whole.exists():
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder
