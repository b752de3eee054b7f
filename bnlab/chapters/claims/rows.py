"""The claims, in the order of the chapters. Every region was written down before the runs that judge it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnlab.chapters.claims.ledger import Case, Claim
from bnlab.chapters.figure_one import measures
from bnlab.chapters.limits_and_relatives import claims as limits
from bnlab.chapters.limits_and_relatives.results import ArmScores
from bnlab.chapters.why_it_works import rules
from bnlab.stats import steps_to

__all__ = ["CLAIMS"]

PAPER = "Ioffe & Szegedy 2015"
DECK = "often taught"
ROUNDING = 1e-6
OWN = "claims-measures"


def own(name: str, when: str = "") -> Case:
    """Return a case that the ledger measures itself."""
    return Case(lambda own: own.of(name), when)


def claim(
    said: str, source: str, page: str, metric: str, *cases: Case, runs: str = OWN, **region: Any
) -> Claim:
    """Return a claim; `runs` names its experiments, with blanks between."""
    return Claim(said, source, tuple(runs.split()), metric, cases, page, **region)


def drift(place: int) -> Callable[..., np.ndarray]:
    """Return how far inputs of a layer move in 600 steps, plain over normalized, each at its best rate."""
    return lambda plain, bn: plain.wasserstein[:, -1, place] / bn.wasserstein[:, -1, place]


def sooner(level: float) -> Callable[..., np.ndarray]:
    """Return how many times fewer steps the normalized network takes to an accuracy, seed by seed."""

    def factor(run: Any) -> np.ndarray:
        first = steps_to(run.accuracy, run.steps, level)
        return first[run.setting("without")] / first[run.setting("with")]

    return factor


def end_lead(run: Any) -> np.ndarray:
    """Return the lead in accuracy of the normalized network at the end, in points, seed by seed."""
    end = 100 * run.accuracy[..., -5:].mean(axis=-1)
    return end[run.setting("with")] - end[run.setting("without")]


def wander(run: Any) -> np.ndarray:
    """Return how much farther the median unit's input wanders without normalization, seed by seed."""
    found = np.median(measures.stability(run).wander, axis=2)
    return found[run.setting("without")] / found[run.setting("with")]


BETTER = "covariate-shift-better-plain covariate-shift-better-bn"
FIRST = "covariate-shift-plain covariate-shift-bn-own"

CLAIMS = (
    # ---- chapter 1
    claim(
        "The feature with the broadest range governs distances.", DECK, "01_feature_scaling",
        "share of the broadest of two features, raw units",
        own("distance-share-of-broadest"), low=0.99,
    ),
    claim(
        "Scaling all features to [0, 1] gives them an equal say.", DECK, "01_feature_scaling",
        "larger share of two features after min-max scaling",
        own("distance-share-after-min-max"), low=0.5, high=0.55, card="equal-ranges",
    ),
    claim(
        "Scaled features help nearest neighbors.", DECK, "01_feature_scaling",
        "points of accuracy that standardizing adds",
        own("neighbors-gain-households", "on our made-up households"),
        own("neighbors-gain-wine", "on the wines"),
        own("neighbors-gain-cancer", "on the breast masses"), low=0.0,
    ),
    claim(
        "Whitening is the better scaling for nearest neighbors.", DECK, "01_feature_scaling",
        "points of accuracy that whitening adds to standardizing",
        own("neighbors-whitening-wine", "on the wines"),
        own("neighbors-whitening-cancer", "on the breast masses"), low=0.0,
    ),
    claim(
        "Scaled features converge faster.", DECK, "01_feature_scaling",
        "excess loss left on raw features over that on standardized ones, same number of steps",
        own("descent-gain-wine", "on the wines"),
        own("descent-gain-cancer", "on the breast masses"), low=1.0, exact=True,
    ),
    claim(
        "Steps of gradient descent grow in proportion to the condition number.", "LeCun et al. 1998",
        "01_feature_scaling", "exponent of the growth", own("descent-exponent"), low=0.95, high=1.05,
    ),
    claim(
        "Adam makes scaling the inputs unnecessary.", DECK, "01_feature_scaling",
        "1 if Adam arrives on raw wines at its best rate", own("adam-arrives-raw"), low=1.0, exact=True,
        card="optimizer-scales",
    ),
    claim(
        "Zero mean and unit variance is whitening.", "slides on Batch Normalization", "04_full_whitening",
        "correlation that standardizing leaves, root mean square", own("correlation-left"), high=0.05,
    ),
    claim(
        "Standardization is robust to outliers.", DECK, "01_feature_scaling",
        "times that one typo narrows the other values", own("typo-squeeze"), high=1.5, geometric=True,
    ),
    claim(
        "Fitting the scaler on all rows inflates the score.", DECK, "01_feature_scaling",
        "points of accuracy gained by the leak, 40 rows",
        own("leak-standardize", "for standardization"), own("leak-whiten", "for whitening"), low=0.0,
    ),
    # ---- chapter 2
    claim(
        "In a plain network the inputs of inner layers drift while it learns.", f"{PAPER}, section 2",
        "02_internal_covariate_shift", "drift of layer 2's input in 600 steps, over that between two batches",
        Case(lambda run: run.wasserstein[:, -1, 0] / run.scatter[:, 0]),
        runs="covariate-shift-plain", low=2.0, geometric=True,
    ),
    claim(
        "Batch Normalization reduces internal covariate shift.", f"{PAPER}, title",
        "02_internal_covariate_shift", "drift of layer 2's input, plain over normalized, each at its best rate",
        Case(lambda p, b, *_: drift(0)(p, b), "from weights of std 0.1"),
        Case(lambda _, __, p, b: drift(0)(p, b), "from weights of std 0.4"),
        runs=f"{FIRST} {BETTER}", low=1.0, geometric=True,
    ),
    claim(
        "It holds the input of every nonlinearity still.", f"{PAPER}, section 3",
        "02_internal_covariate_shift", "how far the last sigmoid's input moves, in its own units",
        Case(lambda run: run.distance[:, -1, 3]), runs="covariate-shift-bn-own", high=0.5, card="every-input-still",
    ),
    claim(
        "A network whose inputs drift less has the lower loss.", f"{PAPER}, section 2",
        "02_internal_covariate_shift",
        "loss of the network with more drift minus that of the one with less (plain, std 0.4; normalized, std 0.1)",
        Case(lambda bn, plain: plain.final_loss - bn.final_loss),
        runs="covariate-shift-bn-own covariate-shift-better-plain", low=0.0,
    ),
    claim(
        "A step of the first layer disturbs the second layer less.", f"{PAPER}, section 2",
        "02_internal_covariate_shift", "disturbance by one step, plain over normalized, same rate",
        Case(lambda p, b: p.one_step_first[:, 0, 0] / b.one_step_first[:, 0, 0], "at the first step"),
        Case(lambda p, b: p.one_step_first[:, 3, 0] / b.one_step_first[:, 3, 0], "at step 600"),
        runs="covariate-shift-plain covariate-shift-bn", low=1.0, geometric=True,
    ),
    claim(
        "Batch Normalization keeps sigmoids out of saturation.", f"{PAPER}, section 2",
        "02_internal_covariate_shift", "saturated share of inputs, plain minus normalized, each at its best rate",
        Case(lambda p, b: p.saturated[:, -1, 1] - b.saturated[:, -1, 1], "in layer 1"),
        Case(lambda p, b: p.saturated[:, -1, 3] - b.saturated[:, -1, 3], "in layer 3"),
        runs=FIRST, low=0.0,
    ),
    claim(
        "Low activations lead to lower ones.", "slides on Batch Normalization", "02_internal_covariate_shift",
        "spread of a sigmoid network's signal at layer 20 over that at layer 1",
        own("sigmoid-spread-shrinks"), high=0.1, geometric=True,
    ),
    claim(
        "Saturated sigmoids make the gradients of a deep network vanish.", f"{PAPER}, section 2",
        "02_internal_covariate_shift", "gradient at layer 1 over that at layer 20, most units saturated",
        own("sigmoid-gradient-large-weights"), high=1.0, geometric=True, card="saturation",
    ),
    # ---- chapter 3
    claim(
        "With the mean held out of the gradient, the bias grows by a fixed amount a step.", f"{PAPER}, section 2",
        "03_naive_normalization", "error of the predicted bias, relative", own("naive-bias-growth"),
        high=ROUNDING, exact=True,
    ),
    claim(
        "The loss stays fixed meanwhile.", f"{PAPER}, section 2", "03_naive_normalization",
        "relative change of the loss in 60 steps", own("naive-loss-moves"), high=ROUNDING, exact=True,
    ),
    claim(
        "The gradient through the mean cures it.", f"{PAPER}, section 2", "03_naive_normalization",
        "how far the bias moves in 60 steps", own("bias-moves-with-gradient"), high=ROUNDING, exact=True,
    ),
    claim(
        "A network normalized outside the gradient step blows up.", f"{PAPER}, section 2",
        "03_naive_normalization", "accuracy in percent after 300 steps with detached statistics",
        own("detached-learns"), high=20.0,
    ),
    claim(
        "Detached statistics cost accuracy.", f"{PAPER}, section 2", "03_naive_normalization",
        "points of accuracy after 300 steps", own("detached-costs"), low=0.0,
    ),
    # ---- chapter 4
    claim(
        "A whitened value depends on every value of the batch.", f"{PAPER}, section 2", "04_full_whitening",
        "share of derivatives that are zero", own("whitening-jacobian-zeros"), high=0.0, exact=True,
    ),
    claim(
        "Full whitening is not everywhere differentiable.", f"{PAPER}, section 3", "04_full_whitening",
        "how far a whitened value jumps when two variances cross",
        own("jump-of-pca", "for PCA whitening"), own("jump-of-zca", "for ZCA whitening"),
        low=ROUNDING, exact=True, card="whitening-differentiable",
    ),
    claim(
        "Automatic differentiation through the eigenvectors works.", DECK, "04_full_whitening",
        "1 if the gradient is finite at two equal eigenvalues",
        own("eigh-gradient-at-equal-eigenvalues"), low=1.0, exact=True,
    ),
    claim(
        "Full whitening is expensive.", f"{PAPER}, section 3", "04_full_whitening",
        "time of full whitening over that of Batch Normalization, 256 features",
        Case(lambda cost: (cost.full / cost.per_feature)[:, cost.features == 256].ravel()),
        runs="full-whitening-cost", low=2.0, exact=True,
    ),
    claim(
        "A mini-batch is too small for joint covariances.", f"{PAPER}, section 3", "04_full_whitening",
        "smallest variance that two rows a feature show, true value 1",
        own("smallest-variance-at-two-rows-a-feature"), high=0.5,
    ),
    claim(
        "Normalizing each unit decorrelates the layer enough.", DECK, "04_full_whitening",
        "correlation of two units of a trained normalized layer, root mean square",
        own("units-stay-correlated"), high=0.05,
    ),
    claim(
        "Normalizing each unit improves the condition of a layer's inputs.", "LeCun et al. 1998",
        "04_full_whitening", "condition number after over before, last hidden layer, after 200 steps",
        own("condition-improves"), high=1.0, geometric=True,
    ),
    # ---- chapter 5
    claim(
        "Gamma and beta can undo the normalization.", f"{PAPER}, section 3", "05_minibatch_batchnorm",
        "squared error of the identity over the variance",
        own("identity-on-one-batch", "on one batch"), own("identity-on-fresh-batches", "across batches of 16"),
        high=ROUNDING, exact=True, card="undo-the-layer",
    ),
    claim(
        "A normalized value is at most the square root of m - 1.", "arithmetic", "05_minibatch_batchnorm",
        "largest value over the bound, heavy tails", own("normalized-bound"), high=1.0, exact=True,
    ),
    claim(
        "Normalized values of normal data are normal.", DECK, "05_minibatch_batchnorm",
        "kurtosis; normal values have 3",
        own("kurtosis-of-four", "in batches of 4"), own("kurtosis-of-256", "in batches of 256"), low=2.9, high=3.1,
    ),
    claim(
        "Each activation becomes more or less Gaussian.", f"{PAPER}, section 3.3", "05_minibatch_batchnorm",
        "absolute excess kurtosis of a trained network's last sigmoid inputs; normal values have 0",
        own("excess-kurtosis-of-trained"), high=0.5,
    ),
    claim(
        "A batch of two passes no gradient.", "arithmetic", "05_minibatch_batchnorm",
        "share of a random squared gradient that passes", own("gradient-through-a-batch-of-two"),
        high=ROUNDING, exact=True,
    ),
    claim(
        "A network in training mode predicts for each example.", DECK, "05_minibatch_batchnorm",
        "points of accuracy that batches of a single class add", own("company-of-one-class"), low=-1.0, high=1.0,
        card="function-of-a-batch",
    ),
    # ---- chapter 6
    claim(
        "The six formulas of the backward pass are right.", f"{PAPER}, section 3", "06_gradient_flow",
        "largest relative difference from torch's autograd", own("gradient-formulas"), high=ROUNDING, exact=True,
    ),
    claim(
        "Batch Normalization does not see the scale of the weights.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "relative change of the output when weights are a thousand times smaller",
        own("scale-seen-without-eps", "at eps = 0"), own("scale-seen-with-eps", "at eps = 1e-5"),
        high=ROUNDING, exact=True,
    ),
    claim(
        "Weight decay and steps reach a balance that the theory predicts.", "van Laarhoven 2017", "06_gradient_flow",
        "fourth power of the weights' length, measured over predicted", own("balance-of-decay"), low=0.95, high=1.05,
    ),
    claim(
        "Batch Normalization prevents vanishing gradients.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "gradient at layer 1 over that at layer 20, random sigmoid network, weights of std 0.1",
        own("sigmoid-gradient-normalized"), low=0.1, high=10.0, geometric=True,
    ),
    claim(
        "Without it, those gradients vanish.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "gradient at layer 1 over that at layer 20, the same network without",
        own("sigmoid-gradient-plain"), high=0.001, geometric=True,
    ),
    claim(
        "Batch Normalization prevents exploding gradients.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "growth of the squared gradient a layer, random ReLU network, batches of 64",
        own("relu-explosion"), low=0.95, high=1.05, geometric=True, card="exploding-gradients",
    ),
    claim(
        "That growth is pi / (pi - 1) a layer for large batches.", "Yang et al. 2019", "06_gradient_flow",
        "growth of the squared gradient a layer over the theory for batches of 64",
        own("relu-explosion-over-theory"), low=0.97, high=1.03, geometric=True,
    ),
    claim(
        "Batch Normalization allows higher learning rates.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "largest stable rate, normalized over plain, small ReLU network",
        Case(lambda p, b, *_: b.largest_stable() / p.largest_stable(), "on raw pixels"),
        Case(lambda _, __, p, b: b.largest_stable() / p.largest_stable(), "on centered pixels"),
        runs="gradient-flow-rates-without gradient-flow-rates-with gradient-flow-rates-without-centered "
        "gradient-flow-rates-with-centered", low=1.0, geometric=True, card="higher-learning-rates",
    ),
    claim(
        "It does so because weights that grow get smaller gradients.", f"{PAPER}, section 3.3", "06_gradient_flow",
        "largest stable rate when weights may grow, over that when their lengths are held",
        Case(lambda free, held: free.largest_stable() / held.largest_stable()),
        runs="gradient-flow-rates-with gradient-flow-rates-with-held", low=2.0, geometric=True,
    ),
    # ---- chapter 7
    claim(
        "Dividing by m - 1 makes the average batch variance unbiased.", f"{PAPER}, section 3.1",
        "07_inference_statistics", "corrected variance over the true one",
        own("unbiased-for-independent", "for independent values"),
        own("unbiased-for-pixels", "for positions of two images"), low=0.99, high=1.01,
    ),
    claim(
        "An unbiased variance gives an unbiased standard deviation.", DECK, "07_inference_statistics",
        "mean root of the corrected variance over the true std, batches of 5",
        own("root-of-unbiased"), low=0.99, high=1.01,
    ),
    claim(
        "Folding the layer into the one before changes nothing.", f"{PAPER}, section 3.1", "07_inference_statistics",
        "largest difference of outputs, relative", own("folding-error"), high=1e-5, exact=True,
    ),
    claim(
        "Training and evaluation mode differ only in their statistics.", DECK, "07_inference_statistics",
        "relative difference of the first layer's gradients at equal statistics",
        own("mode-changes-gradient"), high=0.01, card="two-modes",
    ),
    claim(
        "Running averages are as good as exact statistics.", f"{PAPER}, section 3.1", "07_inference_statistics",
        "points of accuracy between them, same weights, momentum 0.1",
        Case(lambda race: 100 * race.lead()[:, 1, 0], "after 30 steps"),
        Case(lambda race: 100 * race.lead()[:, 3, 0], "after 300 steps"),
        runs="inference-race-sigmoid", low=-0.5, high=0.5,
    ),
    # ---- chapter 8
    claim(
        "One pair of gamma and beta a map obeys the convolutional property.", f"{PAPER}, section 3.2",
        "08_convolutional_batchnorm", "relative error when images are moved before or after",
        own("shared-pair-commutes"), high=ROUNDING, exact=True,
    ),
    claim(
        "The effective mini-batch of a feature map is m p q.", f"{PAPER}, section 3.2", "08_convolutional_batchnorm",
        "independent values that the batch mean is worth, over m p q, first layer",
        own("effective-batch-share"), low=0.8, high=1.25, geometric=True,
    ),
    claim(
        "A network with the convolutional property does better on moved digits.", f"{PAPER}, section 3.2",
        "08_convolutional_batchnorm", "points of accuracy on digits moved by 3 pixels",
        Case(lambda run: 100 * (run.best_accuracy[:, 1, -1] - run.best_accuracy[:, 2, -1])),
        runs="conv-shifted-digits", low=0.0,
    ),
    claim(
        "Folding saves memory for weights.", DECK, "08_convolutional_batchnorm",
        "numbers stored after folding over before, three networks",
        Case(lambda nets: nets.numbers[:, 1] / nets.numbers[:, 0]), runs="conv-folded-nets", high=0.9, exact=True,
    ),
    claim(
        "Two correct libraries train the same network from the same weights and batches.", DECK,
        "08_convolutional_batchnorm", "relative difference of the weights after 100 steps",
        Case(lambda t: t.weight_gap[:, 0, t.precisions.index("float64"), -1], "in float64"),
        Case(lambda t: t.weight_gap[:, 0, t.precisions.index("float32"), -1], "in float32"),
        runs="conv-library-twins", high=ROUNDING, exact=True, card="two-libraries",
    ),
    # ---- chapter 9
    claim(
        "A normalized network trains faster.", f"{PAPER}, section 4.1", "09_mnist_figure_one",
        "times fewer steps on MNIST, each at its best rate",
        Case(sooner(0.5), "to an accuracy of 0.5"), Case(sooner(0.9), "to 0.9"),
        Case(sooner(0.95), "to 0.95"), Case(sooner(0.97), "to 0.97"),
        runs="figure-one-mnist", low=1.0, geometric=True, card="trains-faster",
    ),
    claim(
        "It reaches a higher test accuracy.", f"{PAPER}, section 4.1", "09_mnist_figure_one",
        "points of accuracy at the end of 50,000 steps, each at its best rate",
        Case(lambda run, *_: end_lead(run), "on MNIST"),
        Case(lambda _, run, *__: end_lead(run), "on 4,000 digits"),
        Case(lambda _, __, run, ___: end_lead(run), "on deformed digits"),
        Case(lambda *runs: end_lead(runs[-1]), "on Fashion-MNIST"),
        runs="figure-one-mnist figure-one-digits figure-one-deformed figure-one-fashion",
        low=0.0, card="higher-accuracy",
    ),
    claim(
        "The top line of Figure 1 (b, c) is the 15th percentile.", "slides on Batch Normalization",
        "09_mnist_figure_one", "15th percentile minus 85th, smallest over units and times",
        Case(lambda run: (run.percentiles[..., 0, :] - run.percentiles[..., 2, :]).min(axis=(0, 2, 3))),
        runs="figure-one-mnist", low=0.0, exact=True,
    ),
    claim(
        "At a rate that is too high for the plain network it still learns.", f"{PAPER}, section 3.3",
        "09_mnist_figure_one", "points of accuracy at rate 10 on MNIST, normalized minus plain",
        Case(lambda search: 100 * np.subtract(*search.accuracy[::-1, search.rates.index(10.0), :, -1])),
        runs="figure-one-rates-mnist", low=0.0,
    ),
    claim(
        "The inputs of its sigmoids are more stable.", f"{PAPER}, section 4.1", "09_mnist_figure_one",
        "how far the median of a sigmoid's input wanders relative to its spread, plain over normalized",
        Case(wander), runs="figure-one-mnist", low=1.0, geometric=True,
    ),
    # ---- chapter 10
    claim(
        "Batch Normalization makes training fourteen times faster.", f"often said of {PAPER}, section 4.2",
        "10_accelerating_bn_networks", "factor that normalization alone has in the paper's own table",
        own("paper-factor-alone"), low=10.0, exact=True, card="fourteen-times",
    ),
    claim(
        "Batch Normalization alone speeds up training.", f"{PAPER}, section 4.2.2", "10_accelerating_bn_networks",
        "times fewer steps to the plain network's best accuracy",
        Case(lambda runs: runs.steps_to_best("plain") / runs.steps_to_best("BN")),
        runs="accelerating", low=1.0, geometric=True,
    ),
    claim(
        "It raises the best accuracy.", f"{PAPER}, section 4.2.2", "10_accelerating_bn_networks",
        "points of best accuracy", Case(lambda runs: 100 * (runs.best("BN") - runs.best("plain"))),
        runs="accelerating", low=0.0,
    ),
    claim(
        "With it the learning rate can be five times as high.", f"{PAPER}, section 4.2.1",
        "10_accelerating_bn_networks",
        "points of final accuracy that five times the rate adds to the normalized network",
        Case(lambda runs: 100 * runs.effect("BN", "rate x 5", of="final")), runs="accelerating", low=0.0,
    ),
    claim(
        "With it Dropout can go: the network cannot memorize.", f"{PAPER}, sections 3.4 and 4.2.1",
        "10_accelerating_bn_networks", "points of final accuracy that no Dropout adds, 2,000 images",
        Case(lambda runs: 100 * runs.effect("BN", "no Dropout", of="final")), runs="accelerating-few", low=0.0,
        card="replaces-dropout",
    ),
    claim(
        "With it L2 should be reduced.", f"{PAPER}, section 4.2.1", "10_accelerating_bn_networks",
        "points of final accuracy that a fifth of L2 adds to the normalized network",
        Case(lambda runs, _: 100 * runs.effect("BN", "L2 / 5", of="final"), "with 10,000 images"),
        Case(lambda _, few: 100 * few.effect("BN", "L2 / 5", of="final"), "with 2,000 images"),
        runs="accelerating accelerating-few", low=0.0,
    ),
    claim(
        "With it the rate should decay faster.", f"{PAPER}, section 4.2.1", "10_accelerating_bn_networks",
        "points of final accuracy that six times the decay adds to the normalized network",
        Case(lambda runs: 100 * runs.effect("BN", "decay x 6", of="final")), runs="accelerating", low=0.0,
    ),
    claim(
        "With it local response normalization can go.", f"{PAPER}, section 4.2.1", "10_accelerating_bn_networks",
        "points of final accuracy that its removal adds to the normalized network",
        Case(lambda runs: 100 * runs.effect("BN", "no LRN", of="final")), runs="accelerating", low=-0.5,
    ),
    claim(
        "Shuffling within shards gains about one percent.", f"{PAPER}, section 4.2.1", "10_accelerating_bn_networks",
        "points of final accuracy that shuffling adds to the normalized network",
        Case(lambda runs: 100 * runs.effect("BN", "shuffled", of="final")), runs="accelerating", low=0.5, high=1.5,
    ),
    claim(
        "With it images should be distorted less.", f"{PAPER}, section 4.2.1", "10_accelerating_bn_networks",
        "points of final accuracy that a fifth of the distortion adds to the normalized network",
        Case(lambda runs: 100 * runs.effect("BN", "distortion / 5", of="final")), runs="accelerating", low=0.0,
    ),
    claim(
        "Batch Normalization alone is not enough: the recipe must change with it.", f"{PAPER}, section 4.2.1",
        "10_accelerating_bn_networks", "points by which the list helps the normalized network more than the plain one",
        Case(lambda runs: 100 * runs.interaction("all, rate x 1"), "for the list at the same rate"),
        Case(lambda runs: 100 * runs.interaction("all"), "for the list with five times the rate"),
        runs="accelerating", low=0.0,
    ),
    claim(
        "With it deep networks of sigmoids can be trained.", f"{PAPER}, section 4.2.2", "10_accelerating_bn_networks",
        "accuracy in percent of 12 hidden layers of sigmoids on digits, 400 steps at rate 0.3",
        own("deep-sigmoids-normalized"), low=80.0,
    ),
    claim(
        "Without it they cannot.", f"{PAPER}, section 4.2.2", "10_accelerating_bn_networks",
        "the same without normalization, from weights of the usual size", own("deep-sigmoids-plain"), high=20.0,
    ),
)  # fmt: skip

# ---- chapter 11: each rival has a rule of its own ------------------------------------------------------------------

WHY = {
    "effect": (
        "Batch Normalization lets a network take higher rates and end at a lower loss.", f"{PAPER}, abstract",
        "on raw and on centered pixels its stable rate and its loss are better",
    ),
    "inputs": (
        "It works because it conditions the inputs.", "LeCun et al. 1998",
        "a plain net on centered pixels has more than half of its advantage",
    ),
    "shift": (
        "It works because it keeps distributions from moving.", f"{PAPER}, title",
        "a normalized net whose inputs are moved by noise ends no lower than the plain one",
    ),
    "constants": (
        "Constants in the place of the statistics would do.", "a rival explanation",
        "frozen or running statistics have more than half of the advantage",
    ),
    "detached": (
        "Statistics of the batch would do without their gradient.", "a rival explanation",
        "detached statistics have more than half of the advantage",
    ),
    "rows": (
        "It works because weights that grow lower their own rate.", "van Laarhoven 2017; Arora et al. 2019",
        "with rows of fixed length more than half of the advantage is lost",
    ),
    "smooth_as_trained": (
        "Normalized networks have a smoother loss along their steps.", "Santurkar et al. 2018",
        "range and change of the gradient are smaller, raw and centered",
    ),
    "smooth_twins": (
        "The layer itself makes the loss smoother.", "Santurkar et al. 2018",
        "they are smaller also for one function with equal weights",
    ),
    "rank_kept": (
        "It keeps the rank of deep random networks.", "Daneshmand et al. 2020",
        "the effective rank after fifty layers is more than twice the plain net's",
    ),
    "rank_enough": (
        "That rank is why deep normalized networks train.", "Daneshmand et al. 2020",
        "a net of that rank, with frozen statistics, has more than half of the advantage",
    ),
    "skip_growth": (
        "With shortcuts the signal grows like the number of blocks under it, and doubles without.",
        "De & Smith 2020", "both rates of growth are right to a tenth",
    ),
    "skip_enough": (
        "With shortcuts, quiet branches are why it works.", "De & Smith 2020",
        "branches that begin at zero have more than half of its advantage",
    ),
}  # fmt: skip


def explanation(name: str, said: str, source: str, words: str) -> Claim:
    """Return a claim of chapter 11, judged by the chapter's rule of that name."""
    rule, needs = rules.RULES[name]
    files = tuple(file for need in needs for file in rules.JOINED.get(need, (need,)))

    def ruling(*results: Any) -> tuple[str, Any]:
        found = dict(zip(files, results, strict=True))
        parts = {need: [found[file] for file in rules.JOINED.get(need, (need,))] for need in needs}
        ruled = rule(*(rules.Arms.join(own) if len(own) > 1 else own[0] for own in parts.values()))
        return ruled.verdict, ruled.intervals

    return Claim(
        said, source, tuple(f"why-{file.replace('_', '-')}" for file in files),
        "ratios and shares of the advantage", (), "11_why_does_it_work", ruling=ruling, words=words,
    )  # fmt: skip


# ---- chapter 12 ------------------------------------------------------------------------------------------------------

LIMITS = {
    "cliff-2": ("Batches of 2 ruin Batch Normalization.", "Wu & He 2018", "than in batches of 64"),
    "cliff-8": ("Batches of 8 are enough.", DECK, "against batches of 64"),
    "layer-flat": (
        "Layer normalization does not mind small batches.",
        "Ba et al. 2016",
        "2 against 64",
    ),
    "group-flat": (
        "Group normalization does not mind small batches.",
        "Wu & He 2018",
        "2 against 64",
    ),
    "batch-over-group-64": (
        "In large batches Batch Normalization is better than group normalization.",
        "Wu & He 2018",
        "batches of 64",
    ),
    "group-over-batch-4": (
        "In batches of 4 group normalization is better.",
        "Wu & He 2018",
        "batches of 4",
    ),
    "repaired-2": (
        "Exact statistics repair what tiny batches cost.",
        "Wu & Johnson 2021",
        "beyond half of the loss, batches of 2",
    ),
    "learned-2": (
        "In batches of 2 the hidden layers learn nothing that helps.",
        "arithmetic",
        "gained by training them",
    ),
    "company-one": (
        "Trained in batches of one class, a network reads the class from its company.",
        "Wu & Johnson 2021",
        "in such company over evaluation mode",
    ),
    "company-two": (
        "Trained in batches of two classes, it does so too.",
        "Wu & Johnson 2021",
        "in such company over evaluation mode",
    ),
    "sorted-layer": (
        "Layer normalization does not mind sorted batches.",
        "Ba et al. 2016",
        "batches of one class against shuffled ones",
    ),
    "faded": (
        "New statistics repair a shift of contrast.",
        "Wu & Johnson 2021",
        "faded images, recalibrated, against clean ones",
    ),
    "noisy": (
        "New statistics repair a shift by noise.",
        "Wu & Johnson 2021",
        "beyond half of the loss",
    ),
    "renorm-4": ("Batch Renormalization is better in small batches.", "Ioffe 2017", "batches of 4"),
    "renorm-64": ("In large batches it makes no difference.", "Ioffe 2017", "batches of 64"),
    "ghost-16": (
        "Ghost batches generalize better.",
        "Hoffer et al. 2017",
        "ghosts of 16 in batches of 64",
    ),
    "ghost-2": (
        "Tiny statistics, not small batches, are what ruins it.",
        "Wu & Johnson 2021",
        "ghosts of 2 in batches of 64",
    ),
    "whitened-64": (
        "Whitening the batch is better than normalizing it.",
        "Huang et al. 2018",
        "batches of 64",
    ),
}


def limit(name: str, said: str, source: str, where: str) -> Claim:
    """Return a claim of chapter 12, with the region that the chapter gives it."""
    rule = next(one for one in limits.CLAIMS if one.name == name)
    return Claim(
        said, source, ("limits-alone", "limits-batch", "limits-ghost", "limits-whitened", "limits-renorm"),
        f"points of accuracy, {where}", (Case(lambda *parts: rule.effect(ArmScores.joined(parts))),),
        "12_limits_and_relatives", low=rule.low, high=rule.high,
    )  # fmt: skip


CLAIMS = (
    *CLAIMS,
    *(explanation(name, *words) for name, words in WHY.items()),
    *(limit(name, *words) for name, words in LIMITS.items()),
)
"""All of them."""
