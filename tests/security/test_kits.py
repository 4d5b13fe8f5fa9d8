"""A device kit that came from elsewhere: read in memory, and refused where it is not what a kit is."""

import hashlib
import json
import zipfile

import pytest

from eesearch.costs import kit_reader
from eesearch.costs.kit_reader import Kit, KitError

PIECES = {"pieces/0000.onnx": b"first", "pieces/0001.onnx": b"second", "example.bin": b"\x00" * 16}

NETWORK = {
    "known": {},
    "figures": [
        {"name": "prefix 0", "parts": ["pieces/0000.onnx"], "minus": [], "decides": False},
        {"name": "head", "parts": ["pieces/0001.onnx"], "minus": ["pieces/0000.onnx"], "decides": False},
    ],
    "prefixes": ["prefix 0"],
    "heads": {"a": {"linear": "head"}},
    "decisions": {},
    "resume": None,
}

MANIFEST = {
    "format": "eesearch-kit",
    "version": 2,
    "study": "small",
    "example": {"dtype": "float32", "shape": [1, 4]},
    "entries": {name: hashlib.sha256(content).hexdigest() for name, content in PIECES.items()},
    "networks": {"backbone": NETWORK},
    "joined": None,
}


def network(**changes):
    """Of a manifest whose network is changed."""
    return {"networks": {"backbone": {**NETWORK, **changes}}}


def several(**changes):
    """Of a manifest with two networks, changed where they are joined."""
    joined = {"content": "c0ffee", "reference": "b", **changes}
    return {"networks": {"a": NETWORK, "b": NETWORK}, "joined": joined}


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Writes a kit and reads it; whoever unpacks anything leaves a file in this empty directory, or above it."""
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)

    def pack(entries=None, manifest=None, **options):
        path = tmp_path / "kit.zip"
        told = manifest if isinstance(manifest, bytes) else json.dumps({**MANIFEST, **(manifest or {})}).encode()
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr("manifest.json", told)
            for name, content in (PIECES if entries is None else entries).items():
                archive.writestr(name, content)
        return path

    yield pack
    assert sorted(path.name for path in (tmp_path / "above").rglob("*")) == ["here"], "nothing was unpacked"


FIGURE = {"name": "x", "parts": ["pieces/0000.onnx"], "minus": [], "decides": True}


def refused(path, words):
    with pytest.raises(KitError) as raised:
        Kit(path).check()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_sound_kit_is_read(packed):
    kit = Kit(packed())
    kit.check()
    assert kit.read("pieces/0001.onnx") == b"second"
    assert kit.manifest["networks"]["backbone"]["prefixes"] == ["prefix 0"]
    assert Kit(packed(manifest=several())).manifest["joined"]["reference"] == "b"


@pytest.mark.parametrize(
    "name", ["../evil.onnx", "pieces/../../evil.onnx", "/etc/evil", "\\evil", "..\\evil", "C:\\evil", "C:evil", ".."]
)
def test_entries_that_lead_out_of_the_kit(packed, name):
    refused(packed({**PIECES, name: b""}), "the kit has an entry that leads out of it")


@pytest.mark.parametrize(
    "name", ["evil.py", "pieces/", "pieces/a b.onnx", "pieces/x/y.onnx", "numpy.py", "pieces/x.so"]
)
def test_entries_that_do_not_belong_there(packed, name):
    refused(packed({**PIECES, name: b""}), f"the kit has an entry that does not belong there: {name!r}")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_the_same_name(packed):
    path = packed()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pieces/0000.onnx", b"another one")
    refused(path, "the kit has two entries 'pieces/0000.onnx'")


def test_what_the_manifest_names_must_be_there_and_nothing_else(packed):
    refused(
        packed({"example.bin": PIECES["example.bin"]}), "the kit lacks 'pieces/0000.onnx', which its manifest names"
    )
    refused(packed({**PIECES, "pieces/9.onnx": b""}), "the kit holds 'pieces/9.onnx', which its manifest does not name")


def test_a_piece_that_was_changed(packed):
    refused(
        packed({**PIECES, "pieces/0001.onnx": b"evil"}), "'pieces/0001.onnx' in the kit is damaged: its hash is not"
    )


def test_a_piece_whose_bytes_rotted(packed):
    path = packed()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"second", b"sEcond"))
    refused(path, "'pieces/0001.onnx' in the kit is damaged: Bad CRC-32")


def test_a_piece_that_would_read_other_files(packed):
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    entries = {**MANIFEST["entries"], "pieces/0001.onnx": hashlib.sha256(model).hexdigest()}
    path = packed({**PIECES, "pieces/0001.onnx": model}, {"entries": entries})
    refused(path, "'pieces/0001.onnx' in the kit keeps its weights in another file, which is not read")


def test_too_much_of_anything(packed, monkeypatch):
    bomb = {**PIECES, "pieces/0001.onnx": b"\x00" * 10_000_000}
    path = packed(bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(kit_reader, "LARGEST_ENTRY", 1_000_000)
    refused(path, "'pieces/0001.onnx' in the kit is too large: 10,000,000 bytes, at most 1,000,000 are read")
    monkeypatch.setattr(kit_reader, "LARGEST_KIT", 2_000_000)
    refused(path, "the kit is too large: 10,0")
    monkeypatch.setattr(kit_reader, "MOST_ENTRIES", 3)
    refused(path, "the kit has 4 entries, at most 3 are read")
    monkeypatch.undo()
    monkeypatch.setattr(kit_reader, "LARGEST_MANIFEST", 100)
    refused(packed(), "'manifest.json' in the kit is too large")


def test_a_size_that_is_declared_smaller_than_it_is(packed):
    path = packed({**PIECES, "pieces/0001.onnx": b"\x00" * 100_000}, compression=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    large, small = (100_000).to_bytes(4, "little"), (6).to_bytes(4, "little")
    assert content.count(large) == 2
    path.write_bytes(content.replace(large, small))
    refused(path, "'pieces/0001.onnx' in the kit is damaged: Bad CRC-32")


def test_an_encrypted_entry(packed):
    path = packed()
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(bytes(content))
    refused(path, "'example.bin' in the kit is encrypted")


def test_what_is_no_kit(packed, tmp_path):
    refused(tmp_path / "none.zip", "there is no kit ")
    (tmp_path / "text.zip").write_text("no zip file")
    refused(tmp_path / "text.zip", "is no kit: it is no zip file")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("README.txt", "")
    refused(tmp_path / "other.zip", "is no kit: it has no manifest.json")
    path = packed()
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "is no kit: it is no zip file")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"\xff", "is malformed: 'utf-8' codec"),
        (b"{", "is malformed: Expecting"),
        (b"[" * 100_000, "is malformed: "),
        (b'{"format": NaN}', "is malformed: NaN is no number"),
        (b"[]", "is malformed: it is not of the format eesearch-kit"),
        ({"format": "other"}, "is malformed: it is not of the format eesearch-kit"),
        ({"version": 1}, "the kit is of version 1, this script reads version 2"),
        ({"entries": ["a"]}, "entries are not names with hashes"),
        ({"entries": {"../x": "0"}}, "'../x' is no name of an entry"),
        ({"example": {"dtype": "object", "shape": [1]}}, "the example's dtype is not one of float64"),
        ({"example": {"dtype": "float32", "shape": [2, 4]}}, "the example's shape is not that of one sample"),
        ({"example": {"dtype": "float32", "shape": [1, -4]}}, "the example's shape is not that of one sample"),
        ({"example": {"dtype": "float32", "shape": [1, 5]}}, "the example in the kit has 16 bytes, its shape says 20"),
        (network(figures={}), "figures is no list"),
        (network(figures=[FIGURE | {"parts": ["/etc/passwd"]}]), "names a piece that is"),
        (network(figures=[FIGURE | {"parts": []}]), "'x' measures nothing"),
        (network(figures=NETWORK["figures"] * 2), "two figures have the same name"),
        (network(prefixes=["none"]), "there is no figure 'none'"),
        (network(prefixes=[]), "it has no prefixes"),
        (network(heads={"a": {"linear": "none"}}), "there is no figure 'none'"),
        (network(heads={"a": "linear"}), "heads are not figures by cut and name"),
        (network(decisions={"max_prob": 3}), "decisions are not figures by name"),
        (network(resume="none"), "there is no figure 'none'"),
        (network(known=[]), "known is no object"),
        ({"networks": {}}, "networks are not objects by name"),
        ({"networks": {"a": []}}, "networks are not objects by name"),
        ({"joined": {"content": "", "reference": "backbone"}}, "one network cannot be joined"),
        (several() | {"joined": None}, "it does not say how networks are joined"),
        (several(device="evil"), "it does not say how networks are joined"),
        (several(reference="c"), "there is no network 'c'"),
    ],
)
def test_a_malformed_manifest(packed, manifest, words):
    refused(packed(manifest=manifest), words)
