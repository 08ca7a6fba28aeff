"""The archive: every sample once, whatever happens to the process that writes it."""

import json
import resource
import signal
import threading
from dataclasses import replace

import pytest

from llmsr.archive import Archive, read_archive
from llmsr.errors import UserError
from llmsr.run_directory import RunLock
from llmsr.sample import ANSWER, REFINEMENT, VALIDATION, Evaluation, Sample


def sample(number, **changes):
    evaluation = Evaluation(
        status="ok",
        body="return params[0] * x",
        canonical="0" * 16,
        params=(1.5, 1.0),
        train_mse=0.25,
        nmse={"train": 0.1, "test_ood": None},
    )
    return Sample(
        **{"number": number, "completion": "text \u2028 \x00", "evaluation": evaluation, "parents": (0,)}
        | changes
    )


def test_what_is_read_equals_what_was_appended(tmp_path):
    written = [sample(1), sample(2, island=3, tokens=7), sample(3, evaluation=Evaluation(status="empty"))]
    with Archive(tmp_path) as archive:
        for item in written:
            archive.append(item)
    assert read_archive(tmp_path) == written


def test_an_unfinished_last_line_is_skipped_and_then_overwritten(tmp_path):
    with Archive(tmp_path) as archive:
        archive.append(sample(1))
    with open(archive.path, "a") as file:
        file.write('{"number": 2, "compl')
    assert [s.number for s in read_archive(tmp_path)] == [1]
    with Archive(tmp_path) as archive:
        archive.append(sample(2))
    assert [s.number for s in read_archive(tmp_path)] == [1, 2]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    with Archive(tmp_path) as archive:
        archive.append(sample(1))
    lines = archive.path.read_text()
    archive.path.write_text("garbage\n" + lines)
    with pytest.raises(UserError, match=r"search\.jsonl, line 1"):
        read_archive(tmp_path)


def test_many_threads_and_writers_lose_nothing(tmp_path):
    def write(archive, first):
        for number in range(first, first + 50):
            archive.append(sample(number))

    with Archive(tmp_path, "a") as one, Archive(tmp_path, "b") as two:
        threads = [
            threading.Thread(target=write, args=(archive, first))
            for archive, first in [(one, 0), (one, 50), (two, 100), (two, 150)]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [s.number for s in read_archive(tmp_path)] == list(range(200))


def test_a_full_disk_is_a_sentence_and_leaves_whole_records(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Archive(tmp_path) as archive:
            archive.append(sample(1))
            resource.setrlimit(resource.RLIMIT_FSIZE, (archive.path.stat().st_size + 100, before[1]))
            with pytest.raises(UserError, match="--resume"):
                archive.append(sample(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [json.loads(line)["number"] for line in archive.path.read_text().splitlines()] == [1]


def test_a_second_run_on_one_directory_is_refused(tmp_path):
    with RunLock(tmp_path), pytest.raises(UserError, match="another process is writing"):
        RunLock(tmp_path)
    RunLock(tmp_path).release()


def test_every_sample_of_a_run_has_an_id_of_its_own():
    answer = Sample(12, "", Evaluation("ok"))
    third = replace(answer, kind=REFINEMENT, refinement=3)
    assert (answer.id, third.id) == ("12", "12.3")


@pytest.mark.parametrize(
    ("proposer", "kind"), [("refine", REFINEMENT), ("validation", VALIDATION), ("policy", ANSWER)]
)
def test_a_record_without_a_kind_gets_it_from_its_proposer(proposer, kind):
    record = Sample(1, "", Evaluation("ok"), proposer=proposer).to_record()
    del record["kind"]
    assert Sample.from_record(record).kind == kind
