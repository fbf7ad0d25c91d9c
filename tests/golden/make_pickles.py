"""Writes tests/golden/pickles/*.pkl: one tiny corpus in every form in which writers of pickles put it.

Run once with each of the three, all versions that were used being named here:

    python2.7  tests/golden/make_pickles.py      (Python 2.7.18, numpy 1.16.6: the real cPickle)
    python3    tests/golden/make_pickles.py      (Python 3.11.7, numpy 1.26.4)
    python3    tests/golden/make_pickles.py      (Python 3.11.7, numpy 2.4.6)

A file is named <writer>-p<protocol>-<form>.pkl and holds two consecutive pickles, train (3 segments) and test (2).
Sample j of segment i (counted through both sets) is v(i, j), over 4096 unless the form's name has `int`.
tests/pickle.rs knows the same formula.
"""

import os
import pickle
import sys

import numpy as np

SAMPLES = 20
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pickles")
PYTHON2 = sys.version_info[0] == 2
WRITER = "python2" if PYTHON2 else "numpy" + np.__version__[0]


def v(i, j):
    return (-1) ** j * (700 * i + 41 * j + 5)


def floats(i):
    return [v(i, j) / 4096.0 for j in range(SAMPLES)]


def ints(i):
    return [v(i, j) for j in range(SAMPLES)]


def corpus(segment, sequence=list, numbers=list):
    """train and test: `segment(i)` makes a segment, `sequence` a list of them, `numbers` a list of integers."""
    train = {"data": sequence(segment(i) for i in (0, 1, 2)), "labels": numbers([0, 0, 3]), "track_id": numbers([7, 7, 2])}
    test = {"data": sequence(segment(i) for i in (3, 4)), "labels": numbers([9, 9]), "track_id": numbers([0, 0])}
    return train, test


def write(form, protocol, sets, writer=pickle):
    path = os.path.join(HERE, "%s-p%d-%s.pkl" % (WRITER, protocol, form))
    with open(path, "wb") as f:
        for one in sets:
            writer.dump(one, f, protocol)


def array(dtype, values=floats):
    return lambda i: np.array(values(i), dtype=dtype)


course = corpus(array("f4"))
protocols = range(3 if PYTHON2 else 6)
for p in protocols:
    if PYTHON2:
        import cPickle

        write("course", p, course, cPickle)
    else:
        write("course", p, course)

for p in (2,) if PYTHON2 else (2, 4, 5):
    write("scalars", p, corpus(array("f4"), numbers=lambda xs: list(np.array(xs))))
    write("arrays", p, corpus(array("f4"), numbers=np.array))
    write("int16", p, corpus(array("i2", ints)))
    write("f8", p, corpus(array("f8")))

if WRITER == "python2":
    write("course-pure", 2, course)  # pickle.py; cPickle above
    write("longs", 2, corpus(array("f4"), numbers=lambda xs: [long(x) for x in xs]))  # noqa: F821
    write("plain", 0, corpus(floats))
    write("plain-int", 0, corpus(ints))
if WRITER == "numpy2":
    for p in (2, 4, 5):
        write("big-endian", p, corpus(array(">f4"), numbers=lambda xs: np.array(xs, ">i4")))
        write("big-endian-int16", p, corpus(array(">i2", ints)))
        write("table", p, corpus(floats, sequence=lambda rows: np.array(list(rows), "f4"), numbers=np.array))
    for p in (0, 2, 4):
        write("plain", p, corpus(floats))
        write("plain-int", p, corpus(ints))
        write("tuples", p, corpus(lambda i: tuple(floats(i)), sequence=tuple, numbers=tuple))
    write("mixed", 2, corpus(lambda i: [np.float32(x) if j % 2 else x for j, x in enumerate(floats(i))]))
    write("int64", 4, corpus(array("i8", ints), numbers=lambda xs: np.array(xs, "u1")))
    write("read-only", 5, corpus(lambda i: np.frombuffer(np.array(floats(i), "f4").tobytes(), "f4")))
