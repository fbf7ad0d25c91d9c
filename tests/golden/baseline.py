"""Golden numbers of the MFCC + Gaussian-mixture baseline: librosa's MFCCs, scikit-learn's EM from a given start.

    python baseline.py > baseline.json

The inputs are formulas, written out again in the tests.
"""

import json
import platform
import warnings

import librosa
import numpy as np
import scipy
import sklearn
from sklearn.mixture import GaussianMixture

# a log-mel spectrogram [80, 5]
b, t = np.meshgrid(np.arange(80), np.arange(5), indexing="ij")
spectrogram = (3 * np.sin(0.37 * (b + 1) * (t + 1)) - 0.05 * b - 4).astype(np.float32)
mfcc = librosa.feature.mfcc(S=spectrogram.astype(np.float64), n_mfcc=13)

# 300 points of three groups in three dimensions
i, d = np.meshgrid(np.arange(300), np.arange(3), indexing="ij")
points = (np.sin(1.3 * i + 2.1 * d) * (1 + 0.3 * d) + 2.5 * (i % 3) * (d != 1)).astype(np.float32).astype(np.float64)
weights = np.array([0.5, 0.3, 0.2])
means = points[[0, 1, 2]]
variances = np.array([[1.0, 0.5, 2.0], [1.5, 1.0, 0.7], [1.0, 1.0, 1.0]])

em = {}
for iterations in (1, 10):
    mixture = GaussianMixture(
        3, covariance_type="diag", tol=0, reg_covar=0, max_iter=iterations,
        weights_init=weights, means_init=means, precisions_init=1 / variances,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(points)
    em[iterations] = {
        "weights": mixture.weights_.tolist(),
        "means": mixture.means_.tolist(),
        "variances": mixture.covariances_.tolist(),
        "log_likelihoods": mixture.score_samples(points[:8]).tolist(),
        "mean": mixture.score(points),
    }

print(json.dumps({
    "versions": {
        "python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
        "librosa": librosa.__version__, "scikit-learn": sklearn.__version__,
    },
    "mfcc": mfcc.tolist(),
    "start": {"weights": weights.tolist(), "means": means.tolist(), "variances": variances.tolist()},
    "em": em,
}, indent=1))
