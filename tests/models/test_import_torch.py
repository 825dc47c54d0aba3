"""From a PyTorch checkpoint to safetensors: without PyTorch, with it, and with a file that is none."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from qresearch.models.checkpoint import load_checkpoint
from qresearch.models.import_torch import import_torch, main
from qresearch.models.mlp import MLP


def test_without_pytorch(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"^PyTorch is not installed; install the extra: pip install 'qresearch\[torch\]'\.$"
    ):
        import_torch(tmp_path / "a.th", tmp_path / "a.safetensors")
    with pytest.raises(SystemExit, match=r"^error: PyTorch is not installed"):
        main([str(tmp_path / "a.th"), "-o", str(tmp_path / "a.safetensors")])
    assert list(tmp_path.iterdir()) == []


def test_a_public_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"module.a.weight": tensor.T, "module.b": torch.ones(2)}, "epoch": 3}, tmp_path / "a.th")
    assert import_torch(tmp_path / "a.th", tmp_path / "new" / "a.safetensors") == 2
    found = safetensors.numpy.load_file(tmp_path / "new" / "a.safetensors")
    assert found["a.weight"].tolist() == tensor.T.tolist() and set(found) == {"a.weight", "b"}


def test_code_in_a_file_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": print}, tmp_path / "a.th")
    with pytest.raises(ValueError, match="cannot be read with weights_only=True"):
        import_torch(tmp_path / "a.th", tmp_path / "a.safetensors")


def test_a_plain_state_dict_loads_into_its_model(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {"layers.0.weight": torch.randn(4, 64), "layers.0.bias": torch.randn(4)}
    tensors |= {"layers.1.weight": torch.randn(10, 4), "layers.1.bias": torch.randn(10)}
    torch.save(tensors, tmp_path / "a.pt")
    main([str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.safetensors")])
    model = MLP(width=4, depth=1).build((8, 8, 1), 10, rngs=nnx.Rngs(0))
    load_checkpoint(model, tmp_path / "a.safetensors")
    x = torch.rand(3, 64)
    hidden = torch.relu(x @ tensors["layers.0.weight"].T + tensors["layers.0.bias"])
    logits = hidden @ tensors["layers.1.weight"].T + tensors["layers.1.bias"]
    np.testing.assert_allclose(model(jnp.asarray(x.numpy()).reshape(3, 8, 8, 1)), logits.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": 1}}])
def test_a_file_without_a_state_dict(content, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(SystemExit, match=r"^error: .*a\.pt holds no state dict of tensors; save model\.state_dict\(\)"):
        main([str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.safetensors")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_tensors_that_share_memory_become_apart(tmp_path):
    torch = pytest.importorskip("torch")
    shared = torch.ones(2, 2)
    torch.save({"a": shared, "b": shared}, tmp_path / "a.pt")
    assert import_torch(tmp_path / "a.pt", tmp_path / "a.safetensors") == 2
    assert set(safetensors.numpy.load_file(tmp_path / "a.safetensors")) == {"a", "b"}


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all"], ids=["missing", "empty", "text"])
def test_a_file_that_is_no_checkpoint(content, tmp_path):
    pytest.importorskip("torch")
    if content is not None:
        (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(SystemExit, match=r"^error: .*a\.pt") as caught:
        main([str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.safetensors")])
    assert len(str(caught.value).splitlines()) < 12
    assert not (tmp_path / "a.safetensors").exists()
