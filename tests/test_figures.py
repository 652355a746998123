import json

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from snnrepro import figures
from snnrepro.errors import UserError


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Figures go to a folder of their own, and what would be displayed is kept."""
    (tmp_path / "chapters" / "made2024").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    monkeypatch.setenv("SNNREPRO_ROOT", str(tmp_path))
    outputs = []
    monkeypatch.setattr(figures, "_display", lambda bundle, about: outputs.append((bundle, about)))
    return tmp_path, outputs


def drawing(slope=1.0):
    with plt.rc_context(figures.STYLE):
        fig, (left, right) = plt.subplots(1, 2)
        left.plot([0, 1], [0, slope], label="$U$")
        left.legend()
        figures.panel_letter(left, "A")
        figures.raster(right, np.eye(5))
    return fig


def publish(**change):
    arguments = {
        "citekey": "made2024",
        "caption": "A line,\n as figure 1.",
        "alt": "A line that rises.",
        "data": {"x": np.arange(3.0), "spikes": np.eye(2, dtype=bool)},
        "tolerance": {"x": 0.1, "spikes": 0.0},
    }
    figures.publish(drawing(), "fig-1", **arguments | change)


def test_publish_shows_svg_with_metadata_and_writes_data(shown):
    root, outputs = shown
    publish()
    ((bundle, about),) = outputs
    assert bundle["image/svg+xml"].lstrip().startswith("<?xml")
    assert "<text" not in bundle["image/svg+xml"], "text must be drawn as paths"
    assert bundle["text/plain"] == "Figure: A line, as figure 1."
    assert about == {"name": "made2024-fig-1", "caption": "A line, as figure 1.", "alt": "A line that rises."}
    with np.load(root / ".runs/made2024/figures/fig-1.npz", allow_pickle=False) as written:
        assert sorted(written) == ["spikes", "tolerance/spikes", "tolerance/x", "x"]
        assert np.array_equal(written["x"], np.arange(3.0))
        assert written["tolerance/x"] == 0.1
    assert not plt.get_fignums(), "a published figure is closed, or a notebook shows it twice"


def test_the_same_drawing_gives_the_same_bytes():
    first, second, other = figures.to_svg(drawing()), figures.to_svg(drawing()), figures.to_svg(drawing(2.0))
    assert first == second
    assert first != other
    assert "<dc:date>" not in first


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"caption": "  "}, "caption"),
        ({"alt": ""}, "alternative text"),
        ({"data": {}}, "data"),
        ({"data": {"x": np.array(["a"])}, "tolerance": 0.0}, "numbers"),
        ({"tolerance": {"x": 0.1}}, "spikes"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_what_a_figure_must_have(shown, change, word):
    root, outputs = shown
    with pytest.raises(UserError, match=f"fig-1.*{word}"):
        publish(**change)
    assert not outputs
    assert not list(root.rglob("*.npz"))
    plt.close("all")


@pytest.mark.parametrize("missing", ["citekey", "caption", "alt", "data", "tolerance"])
def test_every_argument_is_required(missing):
    arguments = dict.fromkeys(("citekey", "caption", "alt", "data", "tolerance"), "x")
    del arguments[missing]
    with pytest.raises(TypeError, match=missing):
        figures.publish(None, "fig-1", **arguments)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_compare_data(tmp_path):
    x = np.array([[0.0, 1.0, np.nan], [3.0, 4.0, np.inf]])
    limits = {"tolerance/x": np.array(0.1)}
    committed = saved(tmp_path / "committed.npz", x=x, **limits)
    assert figures.compare_data(saved(tmp_path / "same.npz", x=x), committed) == []
    assert figures.compare_data(saved(tmp_path / "near.npz", x=x + 0.09), committed) == []
    moved = x.copy()
    moved[1, 0] += 0.5
    moved[0, 1] += 0.2
    (line,) = figures.compare_data(saved(tmp_path / "moved.npz", x=moved), committed)
    assert line == "x[1, 0]: 3.5, committed 3, tolerance 0.1; 2 of 6 values differ"
    lost = x.copy()
    lost[0, 0] = np.nan
    assert "x[0, 0]: nan, committed 0" in figures.compare_data(saved(tmp_path / "nan.npz", x=lost), committed)[0]
    assert "shape" in figures.compare_data(saved(tmp_path / "shape.npz", x=x[:1]), committed)[0]
    lines = figures.compare_data(saved(tmp_path / "names.npz", y=x), committed)
    assert [line.split(":")[0] for line in lines] == ["x", "y"]


def test_the_committed_tolerance_counts(tmp_path):
    committed = saved(tmp_path / "committed.npz", x=np.zeros(2), **{"tolerance/x": np.array(0.0)})
    live = saved(tmp_path / "live.npz", x=np.full(2, 0.5), **{"tolerance/x": np.array(1.0)})
    assert len(figures.compare_data(live, committed)) == 1


def curves(**change):
    series = [{"name": "</script>", "role": "ours", "x": [0, 1], "y": [[0, 1], [0, 2]]}]
    data = {"x_label": "x", "y_label": "y", "slider_label": "slope", "slider_values": [1, 2], "series": series}
    return data | change


def test_interactive_embeds_its_data(shown):
    root, outputs = shown
    figures.interactive("fig-2", citekey="made2024", caption="Move <it>.", alt="A line.", data=curves())
    page = outputs[0][0]["text/html"]
    embedded = page.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(embedded) == curves()
    assert 'class="snn-interactive"' in page
    assert 'aria-label="A line."' in page
    assert "Move &lt;it&gt;." in page
    assert "snn-fallback" in page
    with np.load(root / ".runs/made2024/figures/fig-2.npz") as written:
        assert np.array_equal(written["y0"], [[0, 1], [0, 2]])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"slider_values": [1]}, "two slider values"),
        ({"panels": []}, "series or panels"),
        ({"series": [{"name": "a", "role": "ours", "x": [0, 1], "y": [[0, 1]]}]}, "one y a slider value"),
        ({"series": [{"name": "a", "role": "ours", "x": [0, 1], "y": [[0], [1]]}]}, "as long as x"),
        ({"series": [{"name": "a", "role": "mauve", "x": [0], "y": [[0], [1]]}]}, "mauve"),
        ({"series": [{"name": "a", "x": [0], "y": [[0], [1]]}]}, "a series lacks role"),
        ({"series": [{"name": "a", "role": "ours", "x": [0], "y": [[0], [np.nan]]}]}, "plain lists of finite numbers"),
        ({"series": [{"name": "a", "role": "ours", "x": [0], "y": np.zeros((2, 1))}]}, "plain lists .* try .tolist"),
        ({"series": [{"name": "a", "role": "ours", "x": ["u"], "y": [[0], [1]]}]}, "x of 'a' must be numbers"),
        ({"series": [{"name": "a", "role": "ours", "x": [0, 1], "y": [[0, 1], [1]]}]}, "y of 'a' must be numbers, in"),
        ({"slider_values": 3}, "two slider values"),
        ({"slider_values": [1, None, "a"]}, "slider_values must be numbers"),
    ],
)
def test_interactive_refuses_what_it_cannot_draw(shown, change, word):
    with pytest.raises(UserError, match=f"figure fig-2: .*{word}"):
        figures.interactive("fig-2", citekey="made2024", caption="c", alt="a", data=curves(**change))
    assert not shown[1]
    assert not list(shown[0].rglob("*.npz"))


def test_panels_of_an_interactive_figure_have_a_title_and_series(shown):
    data = curves()
    data["panels"] = [{"series": data.pop("series")}]
    with pytest.raises(UserError, match="fig-2: each panel needs title and series"):
        figures.interactive("fig-2", citekey="made2024", caption="c", alt="a", data=data)


def test_a_folder_that_cannot_be_made_is_one_line(shown):
    (shown[0] / ".runs").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"fig-1\.npz: cannot write it: "):
        publish()
    plt.close("all")


def test_raster_draws_one_tick_a_spike():
    dense = np.zeros((10, 3))
    dense[4, 1] = dense[7, 2] = 1
    fig, (a, b) = plt.subplots(1, 2)
    figures.raster(a, dense, dt=0.5, offset=1)
    figures.raster(b, (np.array([2.0, 3.5]), np.array([1, 2])), offset=1)
    (first,), (second,) = a.lines, b.lines
    assert np.array_equal(first.get_xdata(), second.get_xdata(), equal_nan=True)
    assert np.allclose(first.get_ydata()[:2], [1.6, 2.4])
    plt.close(fig)


def test_every_role_has_a_colour_on_the_page(request):
    css = (request.config.rootpath / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    missing = [role for role in figures.COLOURS if f".snn-role-{role}" not in css and role != "paper"]
    assert not missing, "book.css lacks these roles ('paper' takes the colour of the text)"
