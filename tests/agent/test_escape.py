"""Jobs that try to get out of the sandbox, as root and as an ordinary user, with control groups and without."""

import asyncio
import os
import re
import secrets
import select
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.jail import EVERYBODY, MIB, SMALL, Who, perl, run, sh, start, with_mark

from pithead.agent.sandbox import Limits, Sandbox, Unavailable, seccomp
from pithead.agent.sandbox.bubblewrap import candidates
from pithead.agent.sandbox.cgroups import ROOT as GROUPS

everybody = pytest.mark.parametrize("who", EVERYBODY, ids=str)


def ends(pid: int, seconds: float = 10) -> bool:
    """Whether the process ends within this time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def groups_left() -> list[Path]:
    return [left for one in ("memory", "pids", "cpu", ".") for left in (GROUPS / one).rglob("pithead-job-*")]


@everybody
def test_a_job_gets_its_input_and_its_answer_is_what_it_writes(who: Who) -> None:
    job = sh("cat; cat /input/a; echo oops >&2; exit 3", stdin=b"to be read, ", files=(("a", b"a file"),))
    [outcome] = run(who, job)
    assert (outcome.status, outcome.output, outcome.complaint) == (3, b"to be read, a file", "oops\n")
    assert outcome.stopped is None


@everybody
def test_it_cannot_read_the_owners_files_or_the_agents_key(who: Who, tmp_path: Path) -> None:
    key = f"key_{secrets.token_hex(8)}"
    home = tmp_path / "home"
    home.mkdir()
    (home / "default.toml").write_text(key)
    for folder in (home, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        # Nothing but the sandbox is between the job and the file.
        folder.chmod(0o755)
    script = f"""
        cat {home}/default.toml ../../../../{home}/default.toml /proc/1/root{home}/default.toml
        cat /proc/*/environ; env; ls /root /home /etc /tmp /run /var
        for fd in /proc/*/fd/*; do ls $fd/ ; cat $fd/..{home}/default.toml; done </dev/null
        echo "found $(find / -name default.toml 2>/dev/null | wc -l)"
        ls /; cat /proc/*/cmdline >&2
    """
    [outcome] = run(who, sh(script), PITHEAD_KEY=key, SECRET=key)
    assert key not in outcome.output.decode() + outcome.complaint
    assert b"\nfound 0\n" in outcome.output
    seen = set(outcome.output.decode().split("\n"))
    assert {"usr", "work", "input"} <= seen
    assert not {"home", "root", "var", "run", "shadow"} & seen


@everybody
def test_it_reaches_no_network_not_the_coordinator_and_not_this_machine(who: Who, default_url: str) -> None:
    port = default_url.rpartition(":")[2]
    abstract = f"pithead-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_INET) as everywhere:
        listening.bind(f"\0{abstract}")
        listening.listen()
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        script = f"""
            use Socket;
            sub try {{ my ($family, $to) = @_; socket(my $s, $family, SOCK_STREAM, 0) or return print "none: $!\\n";
                      alarm 5; print connect($s, $to) ? "REACHED\\n" : "refused: $!\\n"; }}
            try(AF_INET, pack_sockaddr_in({port}, inet_aton("127.0.0.1")));
            try(AF_INET, pack_sockaddr_in({everywhere.getsockname()[1]}, inet_aton("127.0.0.1")));
            try(AF_INET, pack_sockaddr_in(80, inet_aton("169.254.169.254")));
            try(AF_INET, pack_sockaddr_in(53, inet_aton("10.0.0.1")));
            try(AF_UNIX, pack("S a*", AF_UNIX, "\\0{abstract}"));
            socket(my $raw, AF_INET, SOCK_RAW, 1) ? print "RAW\\n" : print "none: $!\\n";
            socket(my $packet, 17, SOCK_RAW, 768) ? print "PACKET\\n" : print "none: $!\\n";
            socket(my $vm, 40, SOCK_STREAM, 0) ? print "VSOCK\\n" : print "none: $!\\n";
            open(my $f, "<", "/proc/net/dev"); print <$f>;
        """
        [outcome] = run(who, perl(script))
    said = outcome.output.decode()
    assert len(re.findall(r"^(?:refused|none): ", said, re.MULTILINE)) == 8
    assert not re.search("REACHED|RAW|PACKET|VSOCK", said)
    assert re.findall(r"^ *(\w+):(?= *\d)", said, re.MULTILINE) == ["lo"]


@everybody
def test_it_cannot_fork_without_end(who: Who) -> None:
    counting = perl(
        'for (1..1000) { my $p = fork; last unless defined $p; if (!$p) { sleep 100; exit } $n++ } print "$n"'
    )
    mark = f"bomb-{secrets.token_hex(4)}"
    bomb = sh(f": {mark}; b() {{ b | b & b; }}; b; sleep 100", limits=replace(SMALL, seconds=1.5))
    counted, bombed = run(who, counting, bomb)
    assert 5 < int(counted.output) < SMALL.processes
    assert bombed.stopped == "timeout" or bombed.status != 0
    assert with_mark(mark) == []


@everybody
def test_it_cannot_fill_the_disk(who: Who) -> None:
    script = """
        for folder in /work /tmp /dev/shm / /dev /usr /etc /input /proc /work/a; do
            i=0; while dd if=/dev/zero of=$folder/fill$i bs=64k count=16 2>/dev/null; do i=$((i+1)); [ $i -gt 40 ] && echo ENDLESS && break; done
        done
        du -sk /work /tmp /dev/shm | cut -f 1
        rm -f /work/fill* /tmp/fill*
        dd if=/dev/zero of=/work/one bs=1M count=40; stat -c %s /work/one
    """
    [outcome] = run(who, sh(script, limits=replace(SMALL, memory=64 * MIB)))
    assert outcome.status == 0 or outcome.stopped is None, outcome
    *folders, largest = map(int, outcome.output.split())
    assert len(folders) == 3
    assert max(folders) <= 8 * 1024
    assert largest <= SMALL.scratch


@everybody
def test_it_cannot_eat_memory(who: Who) -> None:
    """Not in one process, not in many, and not in files that lie in memory."""
    at_once = perl('$x = "a" x (1 << 30); print "SURVIVED"')
    in_many = perl(
        'my $size = 20 << 20; for (1..15) { if (!fork) { $x = "a" x $size; sleep 100; exit } } sleep 100; print "SURVIVED"',
        limits=replace(SMALL, seconds=15),
    )
    in_files = perl(
        f'$f = syscall({seccomp.UNCOUNTED[1]}, my $n = "x", 0); if ($f < 0) {{ print "refused"; exit 1 }}'
        'open(my $h, ">&=", $f); print $h "a" x (1 << 20) for 1..200; print "SURVIVED"; sleep 100',
        limits=replace(SMALL, scratch=1024 * MIB),
    )
    first, second, third = run(who, at_once, in_many, in_files)
    assert b"SURVIVED" not in first.output + second.output + third.output
    assert first.status != 0
    assert second.stopped == "out_of_memory"
    assert third.stopped == "out_of_memory" or third.output == b"refused"
    if who.groups:
        assert (first.stopped, third.stopped) == ("out_of_memory", "out_of_memory")


@everybody
def test_it_cannot_outlast_its_time_whatever_it_ignores(who: Who) -> None:
    mark = f"stubborn-{secrets.token_hex(4)}"
    script = f'# {mark}\n$SIG{{$_}} = "IGNORE" for keys %SIG; print "here"; close STDOUT; 1 while 1'
    [outcome] = run(who, perl(script, limits=replace(SMALL, seconds=0.5)))
    assert (outcome.stopped, outcome.output) == ("timeout", b"here")
    assert outcome.seconds < 2.5
    assert with_mark(mark) == []


@everybody
def test_it_cannot_leave_a_process_behind(who: Who) -> None:
    mark = f"child-{secrets.token_hex(4)}"
    script = f"""
        # {mark}
        use POSIX;
        if (!fork) {{ POSIX::setsid(); $SIG{{$_}} = "IGNORE" for keys %SIG; if (!fork) {{ print "away"; sleep 1000 }} exit }}
        wait; sleep 1; exit
    """
    [outcome] = run(who, perl(script))
    assert (outcome.status, outcome.output) == (0, b"away")
    assert with_mark(mark) == []


@everybody
def test_it_cannot_write_through_a_link(who: Who, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    target.write_text("mine")
    target.chmod(0o666)
    script = f"""
        ln -s {target} /work/a && echo evil > /work/a
        ln -s /proc/1/root{target} /work/b && echo evil > /work/b
        echo evil > {target}; mkdir -p {tmp_path}; echo evil > /input/a; rm -f /input/a; ln -s {target} /input/a
        mv /usr/bin/env /work/; echo evil > /usr/bin/env; echo evil >> /proc/self/fd/0
        echo 'echo evil' > /etc/profile
        cat /input/a
    """
    before = Path("/usr/bin/env").stat()
    [outcome] = run(who, sh(script, stdin=b"{}", files=(("a", b"as it was"),)))
    assert outcome.output == b"as it was"
    assert target.read_text() == "mine"
    assert Path("/usr/bin/env").stat() == before


@everybody
def test_of_files_on_the_disk_it_sees_those_that_it_is_shown_and_changes_none(who: Who, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    for folder_above in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder_above.chmod(0o755)
    for name, content in (("mine", "for this job"), ("others", "for another")):
        (folder / name).write_text(content)
        (folder / name).chmod(0o444)
    (folder / "link").symlink_to("others")
    for path in (folder, folder / "mine", folder / "others"):
        os.chown(path, who.uid, who.uid)
    folder.chmod(0o700)
    script = f"""
        cat /input/a /input/b {folder}/others /input/../{folder}/others
        echo evil > /input/a; echo evil >> /input/b; rm -f /input/a; chmod 777 /input/a; mv /input/a /work/; ln /input/a /work/a
        for f in /proc/*/fd/*; do cat $f/../others; done 2>/dev/null </dev/null; ls /input; find / -name others 2>/dev/null
    """
    shown = (("a", str(folder / "mine")), ("b", str(folder / "mine")))
    [outcome] = run(who, sh(script, shown=shown))
    assert outcome.output == b"for this jobfor this joba\nb\n"
    assert (folder / "mine").read_text() == "for this job"
    assert ((folder / "mine").stat().st_mode & 0o777, (folder / "mine").stat().st_nlink) == (0o444, 1)
    assert not [left for left in Path(tempfile.gettempdir()).glob("pithead-*") if (left / "a").exists()]
    # What is no file, and a link above all, is not shown: nothing runs at all.
    with start(who, sh("cat /input/a", shown=(("a", str(folder / "link")),))) as process:
        _, _ = process.communicate(timeout=60)
    assert process.returncode != 0


@everybody
def test_it_cannot_see_or_reach_another_job(who: Who) -> None:
    mark = f"other-{secrets.token_hex(4)}"
    victim = sh(f"echo {mark} | tee /work/s /tmp/s /dev/shm/s >/dev/null; sleep 2; cat /work/s")
    spy = sh(
        "sleep 1; ls -a /work /tmp /dev/shm; cat /work/s /tmp/s /dev/shm/s /proc/*/cmdline /proc/*/environ;"
        "ls /proc | grep -c '^[0-9]'; kill -9 -1; for p in $(seq 1 2000); do kill -9 $p; done"
    )
    robbed, spied = run(who, victim, spy)
    assert robbed.output.decode().strip() == mark
    assert mark.encode() not in spied.output


@everybody
def test_the_kernel_refuses_what_a_job_has_no_business_with(who: Who) -> None:
    column = 1 + list(seccomp.ARCHITECTURES).index(os.uname().machine)
    calls = [row for row in (*seccomp.REFUSED, *seccomp.ABSENT) if row[column] is not None]
    script = "".join(
        f'$! = 0; syscall({row[column]}, 0, 0, 0, 0, 0, 0); print "{row[0]} ", 0+$!, "\\n";' for row in calls
    )
    clone, ioctl = seccomp._CLONE[column - 1], seccomp._IOCTL[column - 1]
    script += f'$! = 0; syscall({clone}, 0x10000011, 0, 0, 0, 0); print "newuser ", 0+$!, "\\n";'
    script += f'$! = 0; syscall({ioctl}, 0, 0x5412, my $c = "x"); print "sti ", 0+$!, "\\n";'
    script += f'$! = 0; syscall({seccomp._PERSONALITY[column - 1]}, 0x0040000); print "norandom ", 0+$!, "\\n";'
    # What everybody needs works all the same.
    script += 'my $p = fork; exit 7 if defined $p && !$p; wait; print "forked ", $? >> 8, "\\n";'
    [outcome] = run(who, perl(script))
    said = dict(line.split() for line in outcome.output.decode().splitlines())
    expected = {row[0]: "1" for row in seccomp.REFUSED if row[column] is not None}
    expected |= {row[0]: "38" for row in seccomp.ABSENT}
    assert said == expected | {"newuser": "1", "sti": "1", "norandom": "1", "forked": "7"}


@everybody
def test_it_has_no_rights_no_terminal_and_nothing_of_the_agents_open(who: Who) -> None:
    script = """
        grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; : > /dev/tty
        cat /proc/1/maps /proc/1/mem; ls -l /proc/self/fd /proc/1/fd
        mount -t tmpfs none /work; unshare -U true; su; chroot /work
    """
    [outcome] = run(who, sh(script))
    status = dict(line.split(":\t") for line in outcome.output.decode().splitlines() if ":\t" in line)
    assert {status[f"Cap{kind}"].strip("0") for kind in ("Eff", "Prm", "Bnd")} == {""}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "/dev/tty" in outcome.complaint
    opened = set(re.findall(r"-> (\S+)", outcome.output.decode()))
    assert {re.sub(r"[\d\[\]]+", "", name) for name in opened} <= {
        "/memfd:pithead", "pipe:", "/proc//fd", "anon_inode:eventfd", "anon_inode:[eventfd]", "/dev/null",
    }  # fmt: skip


@everybody
def test_what_it_says_is_bounded(who: Who) -> None:
    loud = sh("yes", limits=replace(SMALL, output=100_000))
    complaining = sh("yes complaint | head -c 20000000 >&2; echo fine")
    endless = sh("yes & yes >&2", limits=replace(SMALL, output=MIB * 4096, memory=256 * MIB, seconds=0.3))
    first, second, third = run(who, loud, complaining, endless)
    assert (first.stopped, len(first.output)) == ("output", 100_000)
    assert (second.output, len(second.complaint)) == (b"fine\n", 4096)
    assert (third.stopped, len(third.complaint)) == ("timeout", 4096)


@everybody
def test_it_keeps_no_more_processors_busy_than_it_may(who: Who) -> None:
    """Where groups are; elsewhere nothing but its time bounds it."""
    script = 'fork; 1 while time < $^T + 2; my ($u, $s) = times; print $u + $s, "\\n"; wait'
    [outcome] = run(who, perl(script, limits=replace(SMALL, cpus=0.25)))
    used = sum(map(float, outcome.output.split()))
    assert used < (1.0 if who.groups else 8)


@everybody
@pytest.mark.parametrize("processes", [3, 1])
def test_the_agents_death_is_the_jobs(who: Who, processes: int) -> None:
    mark = f"orphan-{secrets.token_hex(4)}"
    with start(who, sh(f": {mark}; echo; sleep 1000 & sleep 1000")) as agent:
        try:
            # The two of bubblewrap, and the shell; or as soon as there is anything.
            while len(found := with_mark(mark)) < processes:
                assert agent.poll() is None
        finally:
            agent.kill()
    if processes == 1:
        # Of a sandbox in the making bubblewrap may leave something; the next agent ends it.
        run(who, sh("true"))
    while found:
        assert all(ends(pid) for pid in found)
        found = with_mark(mark)


async def test_a_job_that_is_cancelled_is_gone_within_two_seconds() -> None:
    """However far it had come, and though it is cancelled twice."""
    sandbox, loop = Sandbox(), asyncio.get_running_loop()
    await sandbox.check()
    before = opened()
    for rounds in (0, 1, 5, 20, 100):
        mark = f"cancelled-{secrets.token_hex(4)}"
        script = f"trap '' TERM INT HUP; : {mark}; sleep 1000 & sleep 1000"
        task = asyncio.create_task(sandbox.run(["/bin/sh", "-c", script], Limits()))
        for _ in range(rounds):
            await asyncio.sleep(0.002)
        began = loop.time()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert loop.time() - began < 2
        assert (with_mark(mark), groups_left(), opened()) == ([], [], before)


@everybody
def test_nothing_is_left(who: Who) -> None:
    name = f"left-{secrets.token_hex(4)}"
    write = f"touch /tmp/{name} /work/{name} /dev/shm/{name} /{name}"
    ends = (write, f"{write}; exit 1", f"{write}; sleep 9", f"{write}; kill -9 $$")
    run(who, *(sh(end, limits=replace(SMALL, seconds=0.5)) for end in ends))
    assert not [found for folder in ("/", "/tmp", "/dev/shm", "/run") for found in Path(folder).glob(name)]
    assert groups_left() == []


async def test_without_a_sandbox_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    for bwrap in ("/bin/false", "/bin/true", "/nowhere/bwrap"):
        with pytest.raises((Unavailable, OSError)):
            await Sandbox(Path(bwrap)).run(["/bin/sh", "-c", f"touch {trace}"], Limits())
    found = next(candidates())
    monkeypatch.setattr("pithead.agent.sandbox.box.candidates", lambda: iter(()))
    with pytest.raises(Unavailable, match="bubblewrap is not installed"):
        await Sandbox().run(["/bin/sh", "-c", f"touch {trace}"], Limits())
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "pdp11")))
    with pytest.raises(Unavailable, match="pdp11"):
        await Sandbox(found).run(["/bin/sh", "-c", f"touch {trace}"], Limits())
    assert not trace.exists()
