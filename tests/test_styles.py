import numpy as np

from autolink.generation.styles import principal


def test_principal_directions_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 3)) * [5, 2, 0.5] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = principal(values)
    lengths, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    assert np.allclose(np.linalg.norm(found[:3], axis=1), np.sqrt(lengths[::-1]))
    assert np.allclose(np.abs(np.sum(found[:3] * vectors.T[::-1], axis=1)), np.sqrt(lengths[::-1]))
    assert not found[3:].any()
    assert (np.take_along_axis(found[:3], np.abs(found[:3]).argmax(1)[:, None], 1) > 0).all()
