"""The report's page opened and clicked through, and the command that makes it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harmonic_ethanol import harmonic_ethanol
from rich.console import Console
from test_analysis_sources import written

from ase_atom.analysis import compare
from ase_atom.analysis.report import print_comparison
from ase_atom.cli import main
from ase_atom.errors import ConfigError


@pytest.fixture(scope="module")
def made():
    """A comparison with a disease."""
    given = harmonic_ethanol(seed=1)
    shifted = [run.positions + 1e-3 * run.times[:, None, None] for run in given]
    runs = [(x, run.velocities) for x, run in zip(shifted, given, strict=True)]
    positions, velocities = (np.stack(parts) for parts in zip(*runs, strict=True))
    trajectory = type(given).from_arrays(
        given.numbers, positions, velocities, given.segments[0].times, name="folder/drift<b>.dcd"
    )
    return compare(trajectory, harmonic_ethanol())


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory) -> Path:
    """Its report."""
    out = tmp_path_factory.mktemp("compare") / "out"
    made.write(out, command="ase-atom compare a.dcd b.dcd --report out")
    return out


def test_every_plot_is_there_as_picture_and_table(made, folder):
    for plot in made.plots:
        assert (folder / "plots" / f"{plot.name}.png").read_bytes().startswith(b"\x89PNG")
        with (folder / "plots" / f"{plot.name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        points = sum(len(curve.x) for panel in plot.panels for curve in panel.curves)
        assert len(rows) == points
        assert {row["panel"] for row in rows} == {panel.title for panel in plot.panels}


def test_the_tables_hold_every_line(made, folder):
    with (folder / "lines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [line.name for line in made.lines]
    assert [row["verdict"] for row in rows] == [str(line.verdict) for line in made.lines]
    held = json.loads((folder / "comparison.json").read_text())
    assert held["findings"][0]["name"] == "drifting centre of mass"
    assert held["command"] == "ase-atom compare a.dcd b.dcd --report out"
    assert "rdkit" in held["versions"]


def test_the_page_needs_no_network(folder):
    page = (folder / "report.html").read_text()
    outside = re.findall(r"(?:src|href)=[\"'](?!data:|#|plots/)([^\"']+)", page)
    assert not outside
    assert "drift<b>" not in page  # names are escaped
    assert "drift&lt;b&gt;" in page


def test_the_page_is_small_enough_to_keep(folder):
    assert (folder / "report.html").stat().st_size < 3e6


def test_a_report_is_not_replaced_unasked(made, folder):
    with pytest.raises(ConfigError, match="exists and is kept"):
        made.write(folder)
    with pytest.raises(ConfigError, match="is a file"):
        made.write(folder / "lines.csv")


@pytest.fixture(scope="module")
def page(folder) -> Iterator[object]:
    """The page in headless Chromium, and no error on its console."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        options = {"args": ["--no-sandbox"]}
        system = shutil.which("chromium") or shutil.which("google-chrome")
        own = Path(engine.chromium.executable_path)
        if not own.exists():
            if system is None:
                pytest.skip("no Chromium: neither playwright's nor one on the path")
            options["executable_path"] = system
        browser = engine.chromium.launch(**options)
        context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
        view = context.new_page()
        errors: list[str] = []
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        view.goto((folder / "report.html").as_uri())
        yield view
        assert not errors
        browser.close()


def test_the_verdicts_stand_on_top(page, made):
    headings = page.locator("h2").all_inner_texts()
    assert headings[:2] == ["Verdicts", "3-D view"]
    assert "Drifting centre of mass" in page.locator(".finding").first.inner_text()
    rows = page.locator("#headlines tbody tr").count()
    assert rows == len({(line.section, line.group) for line in made.lines}) + len(made.missing)


def test_every_picture_is_drawn(page, made):
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure img')].map(i => [i.complete, i.naturalWidth])"
    )
    assert len(sizes) == len(made.plots)
    assert all(done and width > 100 for done, width in sizes)


def test_lines_are_filtered(page, made):
    shown = "#all-lines tbody tr:not([hidden])"
    assert page.locator(shown).count() == len(made.lines)
    for verdict in ("differs", "agrees"):
        page.click(f"#filters button[data-show={verdict}]")
        wanted = sum(str(line.verdict) == verdict for line in made.lines)
        assert page.locator(shown).count() == wanted > 0
    page.click("#filters button[data-show=all]")
    page.fill("#filters input", "bond C1")
    assert 0 < page.locator(shown).count() < len(made.lines)
    page.fill("#filters input", "")


def picture(page) -> str:
    return page.evaluate("document.querySelector('canvas').toDataURL()")


def test_the_molecules_move_turn_and_hide(page):
    first = picture(page)
    page.evaluate(
        "(s => { s.value = 40; s.dispatchEvent(new Event('input')); })"
        "(document.querySelector('input[type=range]'))"
    )
    later = picture(page)
    assert later != first
    assert page.evaluate("viewer.state().frame") == 40
    assert page.locator("[data-role=time]").inner_text() == "80 fs"
    page.locator("canvas").scroll_into_view_if_needed()
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y + 40)
    page.mouse.up()
    turned = picture(page)
    assert turned != later
    turn = np.array(page.evaluate("viewer.state().turn")).reshape(3, 3)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    page.mouse.wheel(0, -300)
    page.wait_for_function("viewer.state().zoom > 1.2")
    page.uncheck("[data-model='1']")
    assert page.evaluate("viewer.state().shown") == [True, False]
    assert picture(page) != turned
    page.check("[data-model='1']")


def test_the_molecules_play(page):
    page.click("[data-role=play]")
    start = page.evaluate("viewer.state().frame")
    page.wait_for_function(f"viewer.state().frame !== {start}")
    page.click("[data-role=play]")
    assert page.evaluate("viewer.state().playing") is False


def test_pictures_grow_when_clicked(page):
    image = page.locator("figure img").first
    before = image.bounding_box()["width"]
    image.click()
    assert image.bounding_box()["width"] != before
    image.click()


def test_the_terminal_shows_the_same_verdicts_in_eighty_columns(made):
    out = io.StringIO()
    print_comparison(made, Console(file=out, width=80))
    rows = out.getvalue().splitlines()
    assert "Not the reference's dynamics" in " ".join(rows[:3])
    assert any(row.startswith("reference: ") for row in rows[:6])
    assert any(row.startswith(f"{len(made.lines)} lines: ") for row in rows[:8])
    assert max(map(len, rows)) <= 80
    # One row a group, no word broken: a name too long for its column takes a second row.
    first = next(k for k, row in enumerate(rows) if row.startswith("verdict"))
    table = rows[first + 1 : rows.index("", first)]
    groups = {(line.section, line.group) for line in made.lines}
    assert len(groups) <= len(table) <= len(groups) + 3
    text = " ".join(out.getvalue().split())
    assert "drifting centre of mass" in text
    assert "bond means" in text
    assert f"{len(made.lines)} lines" in text


def test_the_command(tmp_path, capsys):
    written(tmp_path / "a.extxyz", harmonic_ethanol(1, 60, seed=1))
    written(tmp_path / "b.dcd", harmonic_ethanol(1, 60))
    out = tmp_path / "out"
    arguments = ["compare", tmp_path / "a.extxyz", tmp_path / "b.dcd", "--report", out]
    assert main([str(one) for one in arguments]) == 0
    assert (out / "report.html").is_file()
    assert "bond means" in capsys.readouterr().out
    assert main([str(one) for one in arguments]) == 2
    assert "exists and is kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "a reference and an --operator"),
        (["--operator", "x", "--frame-interval", "1fs"], "give --reference-interval"),
        (["b.dcd"], "the trajectory"),
        (["b.dcd", "--tolerance", "bonds=1"], "no tolerance 'bonds'"),
        (["b.dcd", "--discard", "soon"], "--discard 'soon' is not a time"),
        (["b.dcd", "--stride", "0fs", "--operator", "x"], "--stride must be above zero"),
        (["b.dcd", "--stride", "8fs"], "--stride goes with --operator"),
        (["b.dcd", "--time", "8fs"], "--time goes with --operator"),
        (["b.dcd", "--ensemble", "nve"], "--ensemble goes with --operator"),
        (["b.dcd", "--friction", "1"], "--friction goes with --operator"),
        (["b.dcd", "--starts", "8"], "--starts goes with --operator"),
        (["b.dcd", "--uncorrected"], "--uncorrected goes with --operator"),
        (["b.dcd", "--single-pass"], "--single-pass goes with --operator"),
        (["b.dcd", "--reversible"], "--reversible goes with --operator"),
        (["b.dcd", "--frame-interval", "1fs"], "are 2 fs apart by its own times, not 1 fs"),
        (["b.dcd", "--reference-interval", "1fs"], "are 2 fs apart by its own times, not 1 fs"),
        (["b.dcd", "--temperature", "300"], "temperature 300.0 chooses among reference bursts"),
        (["b.dcd", "--molecule", "CO"], "none in a.extxyz nor b.dcd"),
        (["b.dcd", "--energy", "magic"], "unknown energy 'magic'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    reading = [
        "--energy",
        "--frame-interval",
        "--reference-interval",
        "--temperature",
        "--molecule",
    ]
    if {*reading} & {*options}:
        for name in ("a.extxyz", "b.dcd"):
            written(tmp_path / name, harmonic_ethanol(1, 40))
    assert main(["compare", "a.extxyz", *options, "--report", "out"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "out").exists()


def test_calculators_by_name():
    from ase_atom.analysis.reference_engines import make_calculator

    for name, words in (
        ("pyscf:pbe", "pyscf:<functional>/<basis>"),
        ("nowhere.at.all:Thing", "cannot be imported"),
        ("ase.calculators.emt:Thing", "has no Thing"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_calculator(name)
    assert type(make_calculator("ase.calculators.emt:EMT")).__name__ == "EMT"


def test_gfn2_by_name(ethanol):
    pytest.importorskip("tblite", reason="tblite is not installed")
    from ase_atom.analysis.reference_engines import make_calculator

    ethanol.calc = make_calculator("gfn2")
    assert np.abs(ethanol.get_forces()).max() < 0.02  # the example is relaxed by it
