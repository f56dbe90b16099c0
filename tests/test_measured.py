"""The tables of numbers in the docs are those of benchmarks: each page names what measured them, and the same benchmark, run small, prints
these columns, rows and words. Where rows take seconds and depend on a seed alone, their very numbers are printed."""

import re
import shlex
import subprocess
import sys

import pytest
from pages_support import NUMBER, ROOT, TEXTS, readers_folder, stands_in, tables

from initbench.reporting.draw import STYLES

EXACT = {
    "docs/statistics.md: results over seeds, ours": "coverage.py",
    "docs/statistics.md: results over seeds, 6": "coverage.py",
    "docs/statistics.md: results over seeds, 3 schemes against a reference": "coverage.py",
    "docs/statistics.md: differences": "coverage.py",
    "docs/theory.md: scheme": "band.py -s kaiming -w 64 -d 5 --seed 27182",
    "docs/recommend.md: schemes, any shown": "recommend.py --alike 3 6 --trials 4000",
    "docs/theory.md: network": "band.py --models --kinds low_rank --seed 27182",
    "docs/theory.md: cell that missed": "band.py -a silu -s orthogonal -w 64 -d 5 --seed 27182 --out band.jsonl; "
    "band.py --missed-in band.jsonl --seed 161803 -n 1000 --wide-networks 400",
}
"""Tables by page and headings, with the command that prints some of their rows, or all."""
ALIKE = {
    "docs/statistics.md: results, 2 schemes": "anytime.py --sets 4",
    "docs/statistics.md: results, missed": "anytime.py --sets 4",
    "docs/statistics.md: difference, sd of the pairs": "anytime.py --sets 4",
    "docs/statistics.md: schemes, sd of the pairs": "anytime.py --sets 4",
    "docs/gate.md: changed": "gate.py --trials 1",
    "docs/recommend.md: options": "recommend.py --configs smoke --set train.steps=4 --schemes kaiming xavier --seeds 3 --trials 3",
    "docs/reliability.md: model": "checkpoints.py --models mlp:depth=3,width=2048 --pairs 1 --steps 2",
    "docs/reliability.md: fault": "faults.py --only cut --share 0.01",
    "docs/reliability.md: reader": "fuzz.py words --seconds 2",
    "docs/performance.md: side": "speed.py --data data --only initbench --repeats 1",
    "docs/performance.md: model, batch 128: torch's layers": "step.py --models mlp vit --steps 1 --rounds 1",
    "docs/performance.md: microseconds": "step.py --models mlp --steps 1 --rounds 1",
    "docs/performance.md: model, batch 128, alone": "stacked.py --models mlp_16 --runs 2 --steps 4 --repeats 1",
    "docs/performance.md: model, way": "stacked.py --models mlp cnn --convolution grouped separate --runs 2 --steps 4 --repeats 1",
    "docs/performance.md: model, schedule": "probes.py --models mlp --steps 4 --repeats 1",
    "docs/performance.md: grows": "growth.py --runs 10 --steps --layers 2 --no-deep --stored",
    "docs/performance.md: runs": "growth.py --runs --steps --layers --no-deep --stored 10",
    "docs/performance.md: engine": "ray_overhead.py --only overhead --runs 20",
}
"""The same, where numbers depend on the machine, or take minutes."""
FREE = {"docs/recommend.md: options"}
"""A table whose rows are named by the options of the benchmark."""
NEEDS = {"fuzz.py": "atheris", "ray_overhead.py": "ray"}
BY_HAND = {
    "docs/statistics.md: `compare xavier": "anytime.py",
    "docs/statistics.md: runs, pair": "anytime.py",
    "docs/lint.md: model, input": "lint_time.py",
    "docs/tasks.md: problem, scheme": "problems.py",
    "docs/tasks.md: task, largest difference": "tasks.py",
}
"""Tables that take hours and the full datasets: the benchmark says that it prints these columns."""
NOTES = {
    "docs/performance.md: change",
    "docs/performance.md: elsewhere",
}
"""Notes of experiments, which the page says that no command prints again: what lost is gone."""
OTHERS = {"docs/figures.md: `--style`"}
"""Tables of numbers that nothing measures: a test below is about them."""
MADE = {"docs/rules.md", "docs/commands.md", "docs/config.md", "docs/optimizers.md", "docs/schemes.md"}


def of_numbers(rows):
    """Whether most of a table's cells, the first of each row aside, begin with a number."""
    given = [cell for row in rows for cell in row[1:]]
    return 2 * sum(bool(re.match(r"[-+]?\d", cell)) for cell in given) > len(given)


def shape(cell):
    """A cell without its numbers, and without the name of what won."""
    return re.sub(r"^[\w:=#]+(?=, #)", "name", NUMBER.sub("#", cell))


def the_table(name):
    """The headings and rows of the one table of a page that a name is about."""
    page, _, first = name.partition(": ")
    (found,) = [each for each in tables(TEXTS[page]) if ", ".join(each[0]).startswith(first)]
    return found


def in_columns(page, ran):
    """The printed rows in the columns that the page shows; a heading of the page may say more, before a colon."""
    heads, _ = page
    columns = [[head if head in printed else head.rpartition(": ")[2] for head in heads] for printed, _ in ran]
    (found,) = [(wanted, each) for wanted, each in zip(columns, ran, strict=True) if set(wanted) <= set(each[0])]
    wanted, (printed, rows) = found
    places = [printed.index(head) if wanted.count(head) == 1 or printed.count(head) == 1 else number for number, head in enumerate(wanted)]
    return [[row[place] for place in places] for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs benchmarks, each command once, in the folder of a reader, and gives the tables that the last of them prints."""
    folder, done = tmp_path_factory.mktemp("reader"), {}
    readers_folder(folder)

    def tables_of(commands):
        for words in map(shlex.split, commands.split("; ")):
            if words[0] in NEEDS:
                pytest.importorskip(NEEDS[words[0]], reason=f"needs {NEEDS[words[0]]}")
            if tuple(words) not in done:
                command = [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:]]
                ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                assert ran.returncode == 0, ran.stdout + ran.stderr
                done[tuple(words)] = tables(ran.stdout)
        return done[tuple(words)]

    return tables_of


def test_every_table_of_numbers_names_what_measured_it():
    written = [(page, *table) for page, text in TEXTS.items() if page not in MADE for table in tables(text)]
    numbers = sorted(f"{page}: {', '.join(heads)}" for page, heads, rows in written if of_numbers(rows))
    known = (*EXACT, *ALIKE, *BY_HAND, *NOTES, *OTHERS)
    assert [name for name in numbers if not name.startswith(known)] == []
    for name, command in (EXACT | ALIKE | BY_HAND).items():
        assert the_table(name)
        benchmark, page = command.split()[0], TEXTS[name.partition(": ")[0]]
        assert f"benchmarks/{benchmark}" in page or f"make {benchmark.removesuffix('.py')}" in page


@pytest.mark.parametrize("name", BY_HAND)
def test_a_table_that_takes_hours_has_the_columns_of_its_benchmark(name):
    heads, _ = the_table(name)
    assert f'"| {" | ".join(heads)} |' in (ROOT / "benchmarks" / BY_HAND[name]).read_text(encoding="utf-8")


@pytest.mark.heavy
@pytest.mark.parametrize("name", EXACT)
def test_rows_that_a_benchmark_prints_are_on_the_page(name, run):
    page = the_table(name)
    named = [heads for heads in ("scheme", "width", "depth", "network") if heads in page[0]]
    ways = [page[0].index(heads) for heads in named] or [0]
    there = {tuple(row[place] for place in ways): row for row in page[1]}
    assert len(there) == len(page[1])
    for row in in_columns(page, run(EXACT[name])):
        shown = there[tuple(row[place] for place in ways)]
        assert [(one, other) for one, other in zip(shown, row, strict=True) if not stands_in(one, other)] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", ALIKE)
def test_a_table_has_the_columns_rows_and_words_that_its_benchmark_prints(name, run):
    page = the_table(name)
    names = {row[0] for row in page[1]}
    rows = [row for row in in_columns(page, run(ALIKE[name])) if row[0] in names or name in FREE]
    assert rows
    for column in range(1, len(page[0])):
        shown, printed = ({shape(row[column]) for row in each} for each in (page[1], rows))
        assert printed <= shown, page[0][column]


def test_the_sizes_of_figures_are_those_of_the_code():
    _, rows = the_table("docs/figures.md: `--style`")
    assert {row[0].strip("`") for row in rows} == {style for style, _ in STYLES}
    for row in rows:
        one, two = (STYLES[row[0].strip("`"), columns] for columns in (1, 2))
        assert [float(NUMBER.match(cell)[0]) for cell in row[1:4]] == [one.width, two.width, min(one.note, two.note)]
        assert (row[4] == "yes", row[4].startswith("none")) == (one.title > 0, one.title == 0)
