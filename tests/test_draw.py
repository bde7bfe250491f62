import numpy as np

from autolink.draw import draw_graph, edge_map_image, enlarged, grid, keypoint_colours, to_image

GREY = np.full((64, 96, 3), 128, np.uint8)
TRIANGLE = np.array([[10.0, 32.0], [80.0, 32.0], [40.0, 60.0]])


def test_the_picture_given_is_not_changed() -> None:
    picture = GREY.copy()
    drawn = draw_graph(picture, TRIANGLE, np.array([1.0, 0.5, 0.2]))
    assert (picture == GREY).all() and (drawn != GREY).any() and drawn.shape == GREY.shape


def test_strong_edges_are_drawn_and_weak_ones_left_out() -> None:
    drawn = draw_graph(GREY, TRIANGLE, np.array([1.0, 0.01, 0.01]))  # only from the first to the second
    assert (drawn[32, 45] != 128).any()
    assert (drawn[46, 25] == 128).all() and (drawn[46, 60] == 128).all() and (drawn[5, 5] == 128).all()


def test_wider_where_stronger() -> None:
    wide, narrow = (draw_graph(GREY, TRIANGLE, np.array([w, 1.0, 0.0])) for w in (1.0, 0.2))
    assert (wide[:, 25] != 128).any(1).sum() > (narrow[:, 25] != 128).any(1).sum()


def test_colours_stay_with_their_keypoint() -> None:
    few, many = keypoint_colours(4), keypoint_colours(32)
    np.testing.assert_array_equal(few, many[:4])
    assert len({tuple(colour) for colour in many.tolist()}) == 32


def test_points_outside_or_unknown_do_no_harm() -> None:
    for bad in (np.nan, 1e9, -1e9):
        drawn = draw_graph(GREY, np.array([[10.0, 10.0], [bad, 5.0], [3.0, bad]]), np.ones(3))
        assert (drawn[10, 10] != GREY[10, 10]).any()  # the point that is known is there all the same
    assert (draw_graph(GREY, TRIANGLE, np.zeros(3)) != GREY).any()


def test_small_conversions() -> None:
    assert to_image(np.array([[[-2.0, 0.0, 1.0]]])).tolist() == [[[0, 128, 255]]]
    assert edge_map_image(np.array([[0.0, 0.2]])).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert edge_map_image(np.zeros((2, 2))).max() == 0
    assert enlarged(GREY, 2).shape == (128, 192, 3)
    assert grid([[GREY, GREY], [GREY, GREY]], gap=2).shape == (132, 196, 3)
