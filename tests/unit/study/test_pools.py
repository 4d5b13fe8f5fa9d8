import numpy as np
import pytest

from eesearch.core.errors import DataError
from eesearch.study.pools import UNLABELLED, Pool, ToLabel, labels_key, read_pool

NAMES = ("cat", "dog", "2")


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 3)))
    return tmp_path / "x.npz"


def listed(tmp_path, *rows, header="index,label"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


class TestList:
    def test_what_is_written_can_be_filled_in_and_read(self, file, tmp_path):
        wanted = ToLabel((1, 4), 5)
        assert wanted.to_csv() == "index,label\n1,\n4,\n"
        assert "2 of 5 samples need a label (40.0%)" in str(wanted)
        (tmp_path / "labels.csv").write_text(wanted.to_csv().replace("1,", "1,dog").replace("4,", "4,0"))
        pool = read_pool(file, tmp_path / "labels.csv", NAMES)
        assert pool.y.tolist() == [UNLABELLED, 1, UNLABELLED, UNLABELLED, 0]
        assert pool.x.dtype == np.float32

    def test_a_digit_is_the_class_not_the_name(self, file, tmp_path):
        names = ("1", "0", "2")
        assert read_pool(file, listed(tmp_path, "0,1", " 3 , 2 "), names).y.tolist()[::3] == [1, 2]

    def test_further_columns_and_lines_without_label_are_let_pass(self, file, tmp_path):
        path = listed(tmp_path, "0,,nobody knows", "2,cat,", header="index,label,remark")
        assert read_pool(file, path, NAMES).y.tolist() == [UNLABELLED, UNLABELLED, 0, UNLABELLED, UNLABELLED]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (["0,cow"], "line 2.*holds no label; got cow"),
            (["0,cat", "1,3"], "line 3.*holds no label; got 3"),
            (["5,cat"], "about no sample; got 5"),
            (["-1,cat"], "about no sample"),
            (["one,cat"], "about no sample"),
            (["0,cat", "0,dog"], "labels sample 0 twice"),
            (['0,"cat'], "cannot read"),
        ],
    )
    def test_refuses_labels_that_are_none(self, file, tmp_path, rows, words):
        with pytest.raises(DataError, match=words):
            read_pool(file, listed(tmp_path, *rows), NAMES)

    def test_refuses_files_that_are_no_list(self, file, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_pool(file, tmp_path / "none.csv", NAMES)
        with pytest.raises(DataError, match="columns index,label"):
            read_pool(file, listed(tmp_path, "0,1", header="row,class"), NAMES)
        with pytest.raises(DataError, match="cannot read"):
            read_pool(file, file, NAMES)


class TestPool:
    def test_labels_are_read_where_there_are_any(self, file, tmp_path):
        assert (read_pool(file, None, NAMES).y == UNLABELLED).all()
        np.savez(tmp_path / "y.npz", x=np.zeros((2, 3), np.uint8), y=np.array([2, 0]))
        assert read_pool(tmp_path / "y.npz", None, NAMES).y.tolist() == [2, 0]

    @pytest.mark.parametrize("y", [[0, 3], [-1, 0], [0], [0.5, 1.0]])
    def test_labels_that_are_no_class_are_refused(self, tmp_path, y):
        np.savez(tmp_path / "y.npz", x=np.zeros((2, 3)), y=np.array(y))
        with pytest.raises(DataError):
            read_pool(tmp_path / "y.npz", None, NAMES)

    def test_files_without_samples_are_refused(self, tmp_path):
        np.savez(tmp_path / "none.npz", y=np.zeros(2, int))
        np.savez(tmp_path / "empty.npz", x=np.zeros((0, 3)))
        for name in ("none.npz", "empty.npz"):
            with pytest.raises(DataError, match="no samples"):
                read_pool(tmp_path / name, None, NAMES)

    def test_its_source_is_of_the_samples_alone(self):
        x = np.arange(6.0, dtype=np.float32).reshape(3, 2)
        first, labelled = (Pool(x, np.full(3, y, np.int64)).source for y in (UNLABELLED, 1))
        assert first == labelled != Pool(x[::-1], np.zeros(3, np.int64)).source

    def test_labels_that_decide_must_be_there(self):
        pool = Pool(np.zeros((4, 2)), np.array([0, UNLABELLED, 1, UNLABELLED]))
        needed = np.array([0, 2])
        assert labels_key(pool, needed) == labels_key(Pool(pool.x, np.array([0, 1, 1, 1])), needed)
        assert labels_key(pool, needed) != labels_key(Pool(pool.x, np.array([1, 1, 1, 1])), needed)
        with pytest.raises(DataError, match=r"1 of the 2 samples.*got no label of index 3"):
            labels_key(pool, np.array([2, 3]))
