"""Quotas of control groups, as the kernel's files have them in the set-ups that there are."""

from __future__ import annotations

import pytest

from hvs_data.threads.quotas import quotas

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_OTHERS = (
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755",
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
)


def v1_quota(machine, folder: str, quota: int, period: int = 100000) -> None:
    machine.write(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
    machine.write(f"{folder}/cpu.cfs_period_us", f"{period}\n")


def found(machine) -> dict[str, float]:
    return {f"/{quota.folder.relative_to(machine.root)}": quota.cpus for quota in quotas(machine.root)}


def test_v2_takes_every_group_up_to_the_root(machine) -> None:
    machine.mounts(V2)
    machine.process(7, 1, groups="0::/user.slice/job/step\n", me=True)
    machine.write("/sys/fs/cgroup/user.slice/job/step/cpu.max", "max 100000\n")
    machine.write("/sys/fs/cgroup/user.slice/job/cpu.max", "150000 100000\n")
    machine.write("/sys/fs/cgroup/user.slice/cpu.max", "400000 50000\n")
    machine.write("/sys/fs/cgroup/user.slice/other/cpu.max", "10000 100000\n")
    assert found(machine) == {"/sys/fs/cgroup/user.slice/job": 1.5, "/sys/fs/cgroup/user.slice": 8.0}


def test_v1_takes_the_controller_of_cpus(machine) -> None:
    machine.mounts(*V1_OTHERS, V1)
    machine.process(7, 1, groups="5:cpuset:/\n4:cpu,cpuacct:/a/b\n3:memory:/a/c\n1:name=systemd:/x\n", me=True)
    v1_quota(machine, "/sys/fs/cgroup/cpu,cpuacct/a/b", -1)
    v1_quota(machine, "/sys/fs/cgroup/cpu,cpuacct/a", 250000)
    v1_quota(machine, "/sys/fs/cgroup/cpu,cpuacct/a/c", 100000)
    v1_quota(machine, "/sys/fs/cgroup/cpuset/a/b", 100000)
    assert found(machine) == {"/sys/fs/cgroup/cpu,cpuacct/a": 2.5}


@pytest.mark.parametrize("version", [1, 2])
def test_a_hybrid_machine_has_its_quota_in_either(machine, version: int) -> None:
    machine.mounts(*V1_OTHERS, V1, "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw")
    machine.process(7, 1, groups="4:cpu,cpuacct:/a\n0::/b\n", me=True)
    if version == 1:
        v1_quota(machine, "/sys/fs/cgroup/cpu,cpuacct/a", 300000)
        assert found(machine) == {"/sys/fs/cgroup/cpu,cpuacct/a": 3.0}
    else:
        machine.write("/sys/fs/cgroup/unified/b/cpu.max", "300000 100000\n")
        assert found(machine) == {"/sys/fs/cgroup/unified/b": 3.0}


@pytest.mark.parametrize(
    ("mounted", "path", "folder"),
    [
        ("/docker/f00", "/docker/f00", ""),  # a container without a namespace: its own group is mounted as the root
        ("/docker/f00", "/docker/f00/inner", "/inner"),
        ("/", "/", ""),  # a container with a namespace of its own
        ("/", "/inner", "/inner"),
        ("/..", "/", ""),  # a namespace that was made after the mount, whose root lies in between
        ("/../..", "/inner", ""),
        ("/..", "/../sibling", "/sibling"),
    ],
)
def test_containers_and_namespaces(machine, mounted: str, path: str, folder: str) -> None:
    machine.mounts(f"30 23 0:26 {mounted} /sys/fs/cgroup ro - cgroup2 cgroup rw")
    machine.process(7, 1, groups=f"0::{path}\n", me=True)
    machine.write(f"/sys/fs/cgroup{folder}/cpu.max", "200000 100000\n")
    assert found(machine) == {f"/sys/fs/cgroup{folder}": 2.0}


@pytest.mark.parametrize(("mounted", "path"), [("/docker/other", "/docker/f00"), ("/", "/../sibling"), ("/../sibling", "/")])
def test_groups_of_others_do_not_count(machine, mounted: str, path: str) -> None:
    machine.mounts(f"30 23 0:26 {mounted} /sys/fs/cgroup ro - cgroup2 cgroup rw")
    machine.process(7, 1, groups=f"0::{path}\n", me=True)
    machine.write("/sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert found(machine) == {}


def test_a_mount_with_a_space_in_its_path(machine) -> None:
    machine.mounts(r"30 23 0:26 / /mnt/c\040groups rw - cgroup2 cgroup2 rw")
    machine.process(7, 1, groups="0::/a:b\n", me=True)
    machine.write("/mnt/c groups/a:b/cpu.max", "50000 100000\n")
    assert found(machine) == {"/mnt/c groups/a:b": 0.5}


@pytest.mark.parametrize("text", ["", "max", "max 100000", "0 100000", "-1 100000", "junk", "1 2 3", "100000 0"])
def test_no_quota_that_can_be_read_is_none(machine, text: str) -> None:
    machine.mounts(V2)
    machine.process(7, 1, groups="0::/\n", me=True)
    machine.write("/sys/fs/cgroup/cpu.max", text)
    assert found(machine) == {}


def test_a_system_without_these_files_has_none(machine) -> None:
    assert found(machine) == {}
