"""Files that jobs leave: what is taken from them, and what is said of those that cannot be used."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import Source
from provisioner.reports.files import (
    MOST_COLUMNS,
    MOST_POINTS,
    parse_metrics,
    read_diff,
    read_metrics,
    read_series,
    take_dvclive,
    take_plots,
)
from provisioner.reports.found import Found
from provisioner.reports.gather import usual
from provisioner.reports.pictures import LARGEST_PICTURE, image_targets, kept_picture

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "m.json:1: not JSON"),
        (b"[1]", "m.json holds a list, not an object"),
        (b"\xff", "m.json is not UTF-8 text"),
        (b"[" * 100_000, "m.json: not JSON that anybody reads"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "m.json: not JSON that anybody reads: Exceeds the limit"),
    ],
)
def test_what_is_no_metrics_file_is_refused_in_a_line(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse_metrics(data, "m.json")
    assert said in wrong.value.line
    assert "\n" not in wrong.value.line


def test_numbers_that_are_none_are_read() -> None:
    assert repr(parse_metrics(b'{"a": NaN, "b": -Infinity, "c": 1e999}', "m").values) == (
        "{'a': nan, 'b': -inf, 'c': inf}"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot read .*none\.json: No such file"):
        read_metrics(tmp_path / "none.json")


def test_dvcs_differences_have_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "diff.json"
    acc = {"acc": {"old": 0.5, "new": 0.75, "diff": 0.25}, "new": {"new": 1}, "text": {"old": "a", "new": "b"}}
    path.write_text(json.dumps({"metrics.json": acc, "eval.json": {"f1": {"old": 2, "new": None}}}))
    now, old = read_diff(path)
    assert now == [Source("metrics.json", {"acc": 0.75, "new": 1.0})]
    assert old == [Source("metrics.json", {"acc": 0.5}), Source("eval.json", {"f1": 2.0})]
    path.write_text("{}")
    with pytest.raises(InvalidRequest, match="holds no differences"):
        read_diff(path)


def test_series_are_read_from_tables_and_lists(tmp_path: Path) -> None:
    (tmp_path / "loss.tsv").write_text("step\ttimestamp\tloss\n2\t17\t0.5\n0\t16\t1.0\n3\t18\tnan\n")
    (tmp_path / "two.csv").write_text("a,b\n1,x\n2,5\n")
    (tmp_path / "c.json").write_text('[{"epoch": 1, "f1": 0.5}, {"epoch": 2, "f1": "0.75"}]')
    (loss,) = read_series(tmp_path / "loss.tsv", "train/loss.tsv")
    assert (loss.name, loss.x_name, list(loss.points)) == ("train/loss", "step", [(0.0, 1.0), (2.0, 0.5)])
    a, b = read_series(tmp_path / "two.csv", "two.csv")
    assert (a.name, b.name, a.x_name, list(b.points)) == ("two.a", "two.b", "row", [(1.0, 5.0)])
    (f1,) = read_series(tmp_path / "c.json", "c.json")
    assert (f1.x_name, list(f1.points)) == ("epoch", [(1.0, 0.5), (2.0, 0.75)])


def test_a_dvclive_folder_is_taken_whole(tmp_path: Path) -> None:
    live = tmp_path / "dvclive"
    for below in ("plots/metrics/train", "plots/images", "static"):
        (live / below).mkdir(parents=True)
    (live / "metrics.json").write_text('{"train": {"loss": 0.5}, "step": 2}')
    (live / "plots/metrics/train/loss.tsv").write_text("step\tloss\n0\t1\n1\t0.5\n")
    (live / "plots/images/confusion.png").write_bytes(PNG)
    (live / "static/curve.png").write_bytes(PNG)
    (tmp_path / "outside.png").write_bytes(PNG)
    inside = base64.b64encode(b"GIF89a" + bytes(20)).decode()
    (live / "report.md").write_text(
        f"![a](static/curve.png) ![b](data:image/gif;base64,{inside}) ![c](plots/images/confusion.png)\n"
        "![d](https://elsewhere.example/x.png) ![e](../outside.png) ![f](absent.png)"
    )
    found = Found()
    take_dvclive(found, live)
    assert found.metrics[0].values == {"train.loss": 0.5, "step": 2.0}
    assert [one.name for one in found.series] == ["train/loss"]
    names = [one.name for one in found.pictures]
    assert names[:2] == ["confusion.png", "curve.png"]
    assert names[2].endswith(".gif")
    assert len(names) == 3
    assert found.pictures[2].path.read_bytes().startswith(b"GIF89a")
    with pytest.raises(NotFound):
        take_dvclive(found, tmp_path / "absent")


def test_what_cannot_be_used_is_noted_and_the_rest_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(bytes(LARGEST_PICTURE + 1))
    (tmp_path / "c.json").write_text("{broken")
    (tmp_path / ".hidden.png").write_bytes(PNG)
    (tmp_path / "model.bin").write_bytes(PNG)
    found = Found()
    take_plots(found, [tmp_path])
    assert [one.name for one in found.pictures] == ["a.png"]
    assert [note.partition(":")[0] for note in found.notes] == [
        "b.png has 10485761 bytes, more than 10485760",
        "c.json",
    ]
    with pytest.raises(NotFound, match="there is no"):
        take_plots(found, [tmp_path / "absent"])


@pytest.mark.parametrize("target", ["data:image/png;base64,!!", "data:text/html;base64,AAAA", "//x/y.png", "a.txt"])
def test_what_is_no_picture_of_ours_is_left_alone(tmp_path: Path, target: str) -> None:
    assert kept_picture(target, tmp_path, tmp_path, tmp_path) is None


def test_links_show_nothing_of_the_computer_that_draws_the_report(tmp_path: Path) -> None:
    plots, live = tmp_path / "here/plots", tmp_path / "here/dvclive"
    (tmp_path / "key").write_text("secret")
    (tmp_path / "away").mkdir()
    for folder in (plots, live / "plots", tmp_path / "away"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.png").write_bytes(PNG)
    (plots / "b.png").symlink_to(tmp_path / "key")
    (plots / "c.png").symlink_to("a.png")
    (live / "plots/images").symlink_to(tmp_path / "away")
    (live / "report.md").write_text("![x](plots/images/a.png) ![y](plots/a.png)")
    found = Found()
    take_plots(found, [plots], tmp_path / "here")
    assert [one.name for one in found.pictures] == ["plots/a.png", "plots/c.png"]
    assert found.notes == ["plots/b.png is a link that leads out of its folder: it is not shown"]
    take_dvclive(found, live)
    assert [one.path for one in found.pictures[2:]] == [live / "plots/a.png"]


def test_what_the_user_names_elsewhere_is_shown(tmp_path: Path) -> None:
    for name in ("here", "away"):
        (tmp_path / name).mkdir()
    (tmp_path / "away/a.png").write_bytes(PNG)
    (tmp_path / "here/notes.md").write_text("")
    found = Found()
    take_plots(found, [tmp_path / "away", tmp_path / "here/../away/a.png"], tmp_path / "here")
    assert [one.name for one in found.pictures] == ["a.png", "a.png"]
    assert kept_picture("../away/a.png", tmp_path / "here", tmp_path, tmp_path) is not None


@pytest.mark.parametrize("piece", ["![", "![](", "![](a", "![](a ", "![a](b)"])
def test_a_line_full_of_images_is_read_once(piece: str) -> None:
    began = time.process_time()
    found = image_targets(piece * 2_000)
    assert time.process_time() - began < 1
    assert len(found) == (2_000 if piece.endswith(")") else 0)


def test_tables_from_elsewhere_are_read_within_bounds(tmp_path: Path) -> None:
    """One more column, or row, costs no more than its own letters."""
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffStep,loss\r\n1,1e999\r\n\r\n2,1e-320\r\n3,0.5,more\r\n4\r\n".encode())
    (loss,) = read_series(path, "x.csv")
    assert (loss.x_name, list(loss.points)) == ("Step", [(2.0, 0.0), (3.0, 0.5)])
    for text, said in (
        ("a\n" + "1\n" * (MOST_POINTS + 1), "x.csv has more rows than"),
        (
            ",".join(map(str, range(MOST_COLUMNS + 1))) + "\n" + ",".join("1" * (MOST_COLUMNS + 1)),
            "x.csv has 201 columns",
        ),
        ('a\n"' + "b" * 200_000, "x.csv is not a table: field larger"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=said):
            read_series(path, "x.csv")


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("m.yaml", "val: {acc: 0.9, lr: 1e-3}\nsteps: 010\nname: on\nbest: true\n", {"steps": 10.0, "best": 1.0}),
        ("m.YML", "# nothing else\nval:\n  acc: .9\n  lr: 1.e-3\nwhen: 2026-11-21\n", {}),
        ("m.toml", "[val]\nacc = 0.9\nlr = 1e-3\nwhen = 2026-11-21\n", {}),
    ],
)
def test_metrics_are_yaml_and_toml_as_well(name: str, text: str, values: dict[str, float]) -> None:
    assert dict(parse_metrics(text.encode(), name).values) == {"val.acc": 0.9, "val.lr": 0.001, **values}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.yaml", "a: 1\nb: [\n", "m.yaml:3: not YAML that is read here: "),
        ("m.yaml", "a: &x {b: 1}\nc: *x\n", "m.yaml:2: not YAML that is read here: an alias"),
        ("m.yaml", "a: !!python/object/apply:os.getcwd []\n", "m.yaml:1: not YAML that is read here: could not"),
        ("m.yaml", "- 1\n", "m.yaml holds a list, not an object"),
        ("m.yaml", "[" * 5000, "m.yaml: not YAML: a number is too long, or there are too many levels"),
        ("m.toml", "a = \n", "m.toml: not TOML: Invalid value (at line 1, column 5)"),
        ("m.tsv", "step\tacc\n", "m.tsv is a series, not metrics"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_metrics(text.encode(), name)
    assert refused.value.message.startswith(said)
    assert "\n" not in refused.value.message


def test_the_first_of_the_usual_names_counts(tmp_path: Path) -> None:
    for name in ("metrics.toml", "metrics.yaml", "sub/metrics.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert usual(tmp_path).metrics == ("metrics.yaml",)
    assert usual(tmp_path, anywhere=True).metrics == ("metrics.yaml", "sub/metrics.yml")
