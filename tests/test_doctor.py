"""What `doctor` looks at."""

from initbench.cli import doctor


def test_a_broken_torch_is_broken_and_a_broken_torchvision_only_limits(monkeypatch):
    monkeypatch.setattr(doctor, "ASK_TORCH", "raise OSError('libtorch.so: cannot open shared object file')")
    monkeypatch.setattr(doctor, "ASK_TORCHVISION", "raise RuntimeError('operator torchvision::nms does not exist')")
    found = {check.what: check for check in doctor.examine()}
    assert found["torch"].state == "broken"
    assert "cannot open shared object file" in found["torch"].found
    assert found["torch"].remedy
    assert found["torchvision"].state == "limited"
    assert "data get" in found["torchvision"].remedy


def test_a_python_that_crashes_is_told_by_its_exit_status():
    worked, answer = doctor._ask("import os; os._exit(7)")
    assert (worked, answer) == (False, "it ended with the exit status 7")


def test_the_doctor_says_which_data_are_there(tmp_path):
    data, disk = doctor.examine_room(str(tmp_path))
    assert data.found.startswith(f"mnist5k (data folder: {tmp_path}")
    assert disk.what == "disk"
