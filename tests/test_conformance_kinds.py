"""The conformance kit on every other kind: what is sound passes, planted defects are named."""

from __future__ import annotations

import concurrent.futures
import dataclasses

import pytest
import torch
from pydantic import Field

from msgm_bench import (
    Cost,
    Data,
    Dataset,
    DatasetInfo,
    DiscreteDDPM,
    Embedder,
    Examples,
    Executor,
    Metric,
    MetricColumn,
    MetricProtocol,
    Options,
    Prediction,
    Prompt,
    PromptBook,
    Row,
    Samples,
    SubVariancePreserving,
    Tracker,
    VarianceExploding,
    VariancePreserving,
    hookimpl,
)
from msgm_bench.registry import registry
from msgm_bench.testing import (
    ToyBackbone,
    ToyJudge,
    check_backbone,
    check_dataset,
    check_embedder,
    check_executor,
    check_judge,
    check_metric,
    check_process,
    check_sampler,
    check_task,
    check_tracker,
    toy_context,
    toy_images,
)
from msgm_bench.testing.toys import CPU, toy_model
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.datasets.digits import Digits
from msgm_builtin.datasets.gaussians import Gaussians
from msgm_builtin.embedders.judge_features import JudgeFeatures
from msgm_builtin.judges.bayes import Bayes
from msgm_builtin.metrics.frontier import FrontierGap
from msgm_builtin.samplers.one_step import OneStep
from msgm_builtin.samplers.reverse import DDIMSampler, HeunSampler
from msgm_builtin.tasks.generation import Generation, GenerationOptions
from msgm_text.metrics.prompt_fid import BaseInceptionFID


def named(kind):
    """Built-in classes of a kind, with ids."""
    entries = registry().entries(kind)
    return pytest.mark.parametrize(
        "cls", [e.cls for e in entries], ids=[e.cls.name for e in entries]
    )


def planted(*cases):
    """Pairs of a defect and the sentence that names it."""
    return pytest.mark.parametrize(("cls", "sentence"), cases)


# Processes and backbones -------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("backbone", [DDPM, VESDE])
def test_backbones_conform(backbone, network):
    """Both networks, on both tracks."""
    small = {"width": 16, "depth": 1, "channels": (8, 8), "layers": 1, "attention": ()}
    check_backbone(backbone, small | {"network": network})


@pytest.mark.parametrize(
    "process",
    [
        VariancePreserving(),
        SubVariancePreserving(beta_max=8.0),
        VarianceExploding(0.01, 8.0),
        DiscreteDDPM(),
        DiscreteDDPM(steps=50),
    ],
)
def test_processes_conform(process):
    """The built-in ones, with other parameters too."""
    check_process(process)


class WrongRates(VariancePreserving):
    """f without its half."""

    def drift_diffusion(self, t):
        """-beta in the place of -beta/2."""
        f, g = super().drift_diffusion(t)
        return 2 * f, g


class WrongDiffusion(SubVariancePreserving):
    """g of VP in sub-VP, as in the first drafts of many."""

    def drift_diffusion(self, t):
        """sqrt(beta)."""
        f, _ = super().drift_diffusion(t)
        return f, self.beta(t).sqrt()


class WrongSigma(VariancePreserving):
    """sigma^2 where sigma should be."""

    def marginal(self, t):
        """A variance for a deviation."""
        a, sigma = super().marginal(t)
        return a, sigma.square()


class WrongTransition(VarianceExploding):
    """sigma_t^2 where the difference should be."""

    def transition(self, s, t):
        """The marginal's variance."""
        alpha, _ = super().transition(s, t)
        return alpha, self.noise_to_signal(t).square()


class WrongAlpha(VariancePreserving):
    """a_t for a_t / a_s."""

    def transition(self, s, t):
        """The marginal's mean."""
        _, variance = super().transition(s, t)
        return self.marginal(t)[0], variance


class WrongRatio(VariancePreserving):
    """sigma for sigma / a."""

    def noise_to_signal(self, t):
        """Half of it is missing."""
        return self.marginal(t)[1]


class WrongInverse(VarianceExploding):
    """A time that is another's."""

    def t_from_noise_to_signal(self, noise_to_signal):
        """Off by a factor."""
        return 0.9 * super().t_from_noise_to_signal(noise_to_signal)


class WrongPrior(VarianceExploding):
    """The prior of VP."""

    @property
    def prior_std(self):
        """Too small."""
        return 1.0


class HalfTimes(VariancePreserving):
    """Trains on half of the process."""

    def sample_times(self, uniform):
        """Never beyond the middle."""
        return super().sample_times(uniform / 2)


@planted(
    (WrongRates, "WrongRates: a' = f a does not hold"),
    (WrongDiffusion, r"g\^2 = \(sigma\^2\)' - 2 f sigma\^2 does not hold"),
    (WrongSigma, r"g\^2 = \(sigma\^2\)' - 2 f sigma\^2 does not hold"),
    (WrongTransition, r"does not lead from the marginal at s to that at t"),
    (WrongAlpha, r"transition\(s, t\) has not alpha = a_t / a_s"),
    (WrongRatio, "noise_to_signal is not sigma / a"),
    (WrongInverse, "t_from_noise_to_signal is not the inverse of noise_to_signal"),
    (WrongPrior, "prior_std is not that of x_T"),
    (HalfTimes, "sample_times does not reach over"),
)
def test_defects_of_processes_are_named(cls, sentence):
    """By differentiation and composition; a backbone is looked at the same way."""
    with pytest.raises(AssertionError, match=sentence):
        check_process(cls())
    backbone = type("Built", (ToyBackbone,), {"__doc__": "A toy.", "process": lambda *_: cls()})
    with pytest.raises(AssertionError, match=sentence):
        check_backbone(backbone)


class Deaf(ToyBackbone):
    """Says that it takes a class, and does not listen."""

    name = "deaf"

    def network(self, info, process):
        """The unconditional one."""
        network = super().network(info, process)
        network.label = None
        return network


def test_a_backbone_that_ignores_the_class_is_found():
    """Equal predictions for two classes are named."""
    with pytest.raises(AssertionError, match="deaf: classes 0 and 1 of 3 get one prediction"):
        check_backbone(Deaf)


# Datasets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [Digits, Gaussians])
def test_datasets_conform(dataset):
    """Those that need no files; the others have tests with files of their own."""
    check_dataset(dataset)


class Toy(Dataset):
    """The toy images, 240 of them."""

    name = "toy"
    change = staticmethod(lambda data: data)

    def load(self) -> Data:
        """Draw."""
        return self.change(toy_images(960, size=8))


def toy(change, **attributes):
    """The toy dataset with a defect."""
    return type("Changed", (Toy,), {"__doc__": "Toy.", "change": staticmethod(change)} | attributes)


def replaced(part, **changes):
    """A change of one part of the data."""

    def change(data):
        examples = getattr(data, part)
        new = {key: f(getattr(examples, key)) for key, f in changes.items()}
        return dataclasses.replace(data, **{part: dataclasses.replace(examples, **new)})

    return change


def leaking(count):
    """So many held-out items are training items."""

    def change(data):
        x, y = data.test.x.clone(), data.test.y.clone()
        x[:count], y[:count] = data.train.x[:count], data.train.y[:count]
        return dataclasses.replace(data, test=Examples(x, y))

    return change


def with_info(**changes):
    """``info`` of the toy images with these fields."""
    info = DatasetInfo((1, 8, 8), ("a", "b", "c"), 720, 240, levels=16)
    return {"info": lambda self: dataclasses.replace(info, **changes)}


@planted(
    (toy(leaking(240)), r"240 of 240 held-out items \(100.0%\) are training items"),
    (toy(leaking(5)), r"5 of 240 held-out items \(2.1%\)"),
    (toy(lambda d: dataclasses.replace(d, test=d.train)), "held-out items"),
    (toy(lambda d: dataclasses.replace(d, classes=("a", "b"))), "labels up to 2 of 2 classes"),
    (toy(lambda d: dataclasses.replace(d, classes=("a", "b", "b"))), "classes need two names"),
    (toy(lambda d: dataclasses.replace(d, protocol="")), "the data protocol has no name"),
    (toy(lambda d: dataclasses.replace(d, levels=8)), "grey levels beyond levels"),
    (toy(lambda d: dataclasses.replace(d, regions={"a": (0, 0, 9, 2)})), "not in 8x8"),
    (toy(lambda d: dataclasses.replace(d, regions={"z": (0, 0, 1, 1)})), "which is no class"),
    (toy(replaced("train", y=lambda y: y.clamp(max=1))), "train has no item of 'c'"),
    (toy(replaced("test", y=lambda y: y.clamp(min=1))), "test has no item of 'a'"),
    (toy(replaced("test", y=lambda y: y - 1)), "labels from -1"),
    (toy(replaced("train", y=lambda y: y[:-1])), "train has items without labels"),
    (toy(replaced("train", y=lambda y: y.int())), "labels are torch.int32"),
    (toy(replaced("train", x=lambda x: x.float())), "images are torch.float32"),
    (toy(replaced("train", x=lambda x: x.float().add(torch.rand(x.shape)))), "loads other items"),
    (toy(lambda d: d, **with_info(levels=256)), "its info says"),
    (toy(lambda d: d, **with_info(train=1000)), r"its info counts \(1000, 240\), it loads"),
)
def test_defects_of_datasets_are_named(cls, sentence):
    """Leaks with their share, labels, levels, classes, info."""
    with pytest.raises(AssertionError, match=sentence):
        check_dataset(cls)


CAPTIONED = PromptBook(
    concepts=("a", "b", "c"),
    prompts=tuple(
        Prompt(f"{name} item", (i,), group, None if group == "train" else i)
        for group in ("train", "target")
        for i, name in enumerate("abc")
    ),
    domains={"letters": ("a", "b", "c")},
    anchors={"a": "b item"},
    words=("a", "b", "c", "item"),
)


def captioned(y=lambda y: y, c=lambda c: c, drop=(), **changes):
    """The toy images with attributes, captions and prompts, and a defect in them."""

    def change(data):
        def part(examples):
            attributes = torch.nn.functional.one_hot(examples.y, 3).bool()
            return Examples(examples.x, y(attributes), c(examples.y))

        rows = tuple(row for i, row in enumerate(CAPTIONED) if i not in drop)
        book = dataclasses.replace(CAPTIONED, **{"prompts": rows, **changes})
        new = {"train": part(data.train), "test": part(data.test), "prompts": book}
        return dataclasses.replace(data, **new)

    return toy(change)


def row(*prompt):
    """The rows of the captioned images, and one more."""
    return (*CAPTIONED.prompts, Prompt(*prompt))


@planted(
    (captioned(c=lambda c: None), "items have no captions"),
    (captioned(c=lambda c: c.int()), "captions are torch.int32"),
    (captioned(c=lambda c: c[:-1]), "captions of 720 items"),
    (captioned(c=lambda c: c - 1), "captions beyond the 6 prompts"),
    (captioned(c=lambda c: c + 3), "does not show what its caption asks for"),
    (captioned(y=lambda y: y.roll(1, dims=1)), "item 0 does not show what its caption asks for"),
    (captioned(concepts=("a", "b", "d")), "concepts are not its classes"),
    (captioned(drop=(3,)), "no prompt of the group 'target' asks for a"),
    (captioned(drop=(4, 5)), "ask for nothing but a"),
    (captioned(prompts=row("a item", (3,), "train")), r"prompt 6 \('a item'\): concepts \[3\]"),
    (captioned(prompts=row("a item", (0,), "pairs", 0)), "group 'pairs'"),
    (captioned(prompts=row("a item", (0,), "target")), "tests no concept"),
    (captioned(prompts=row("a item", (0,), "train", 0)), "caption that tests a concept"),
    (captioned(prompts=row("an item", (0,), "target", 0)), "'an' is no word of the book"),
    (captioned(domains={"letters": ("a", "z")}), "its domains name 'z', which is no concept"),
    (captioned(anchors={"z": "a item"}), "its anchors name 'z', which is no concept"),
)
def test_defects_of_prompts_are_named(cls, sentence):
    """Captions of other items, concepts that nothing tests, rows that mean nothing."""
    with pytest.raises(AssertionError, match=sentence):
        check_dataset(cls)


def test_a_captioned_dataset_conforms():
    """The same prompts without a defect."""
    check_dataset(captioned())


def test_a_few_natural_doubles_pass():
    """Under one per cent, as two hands draw alike; more where the author says why."""
    check_dataset(toy(leaking(2), **with_info()))
    check_dataset(toy(leaking(5)), leak=0.03)


# Judges and embedders ----------------------------------------------------------------------


def test_judges_and_embedders_conform():
    """The toy judge, the exact one, and the judge's own features."""
    check_judge(ToyJudge, toy_images(960))
    check_judge(Bayes, Gaussians.create({"train_size": 200, "test_size": 200}).load())
    check_embedder(JudgeFeatures)


class Peeking(ToyJudge):
    """Learns from held-out labels."""

    def fit(self, data, seed, device):
        """The first held-out label is all that it ever says."""
        super().fit(data, seed, device)
        self.shift = int(data.test.y[0])

    def state(self):
        """The shift."""
        return {"shift": torch.tensor(self.shift)}

    def restore(self, data, state, device):
        """The shift."""
        self.shift = int(state["shift"])

    def predict(self, x):
        """Shifted."""
        said = super().predict(x)
        return Prediction((said.classes + getattr(self, "shift", 0)) % 3, said.recognised)


class Amnesic(Peeking):
    """Restores nothing."""

    def fit(self, data, seed, device):
        """Always one further."""
        super().fit(data, seed, device)
        self.shift = 1

    def restore(self, data, state, device):
        """Not at all."""


class Whimsical(ToyJudge):
    """Fits by torch's global generator."""

    def fit(self, data, seed, device):
        """Draws."""
        super().fit(data, seed, device)
        self.shift = int(torch.randint(0, 1000, ()))

    def state(self):
        """The draw."""
        return {"shift": torch.tensor(self.shift)}

    def restore(self, data, state, device):
        """The draw."""
        self.shift = int(state["shift"])

    def predict(self, x):
        """Shifted."""
        said = super().predict(x)
        return Prediction((said.classes + getattr(self, "shift", 0)) % 3, said.recognised)


class Relative(ToyJudge):
    """Compares each image with its batch."""

    def predict(self, x):
        """By ranks in the batch."""
        said = super().predict(x)
        order = x.flatten(1).sum(dim=1).argsort().argsort()
        return Prediction(order % 3, said.recognised)


class Boastful(ToyJudge):
    """Has more than all right."""

    def fit(self, data, seed, device):
        """120 per cent."""
        self.report = {"accuracy": 1.2}


class Ungated(ToyJudge):
    """Lost its gate."""

    options_type = Options


@planted(
    (Peeking, "fit learns from the labels of held-out items"),
    (Amnesic, "restored, it judges otherwise"),
    (Whimsical, "the same seed fits another judge"),
    (Relative, "a prediction depends on its batch"),
    (Boastful, r"the accuracy is 1.2, not a share in \[0, 1\]"),
    (Ungated, "a subclass of JudgeOptions"),
)
def test_defects_of_judges_are_named(cls, sentence):
    """State, seeds, batches, reports."""
    with pytest.raises(AssertionError, match=sentence):
        check_judge(cls, toy_images(960))


class Pixels(Embedder):
    """The pixels themselves."""

    name = "pixels"

    def embed(self, x):
        """As they are."""
        return x.flatten(1)


def embedding(function, **attributes):
    """An embedder with a defect."""
    body = {"__doc__": "A defect.", "embed": lambda self, x: function(x)} | attributes
    return type("Changed", (Pixels,), body)


@planted(
    (embedding(lambda x: x.flatten(1) - x.mean()), "features depend on the rest of the batch"),
    (embedding(lambda x: x.flatten(1) + torch.rand(1)), "features change from call to call"),
    (embedding(lambda x: x), "features have shape"),
    (embedding(lambda x: x.flatten(1)[:3]), "3 features of 8 images"),
    (embedding(lambda x: 0 * x.flatten(1)), "all images have one feature"),
    (embedding(lambda x: x.flatten(1) / 0), "features are not finite"),
    (embedding(lambda x: x.mul_(0.5).flatten(1)), "embed changes the images"),
    (embedding(lambda x: (x.flatten(1) * 9).long()), "features are torch.int64"),
    (
        embedding(lambda x: x.flatten(1), checksum=lambda self: 64 * "a"),
        "its protocol does not hold the weights' checksum",
    ),
    (
        embedding(lambda x: x.flatten(1), protocol=lambda self: {"weights": "/home/me/w.pt"}),
        "its protocol holds a path",
    ),
    (
        embedding(lambda x: x.flatten(1), missing_weights=lambda self, judge: "no weights"),
        "cannot be checked here: no weights",
    ),
)
def test_defects_of_embedders_are_named(cls, sentence):
    """Shapes, batches, determinism, protocols."""
    check_embedder(Pixels)
    with pytest.raises(AssertionError, match=sentence):
        check_embedder(cls)


# Samplers ----------------------------------------------------------------------------------


@named("samplers")
def test_samplers_conform(cls):
    """Gaussians from their exact score; the one-step generator is for other models."""
    few = {"nfe": 200} if cls is not OneStep else None
    check_sampler(cls, few)


class Plain(HeunSampler):
    """Heun, to plant defects in."""

    wrong = staticmethod(lambda model, noise, start, samples: samples)

    def sample(self, model, noise, start=None):
        """What Heun draws, changed."""
        return self.wrong(model, noise, start, super().sample(model, noise, start))


def sampling(wrong):
    """A sampler with a defect."""
    return type("Changed", (Plain,), {"__doc__": "A defect.", "wrong": staticmethod(wrong)})


class Stopping(DDIMSampler):
    """Draws from the prior and says that it is done."""

    def sample(self, model, noise, start=None):
        """The prior."""
        model.network(torch.zeros(1, 2), torch.ones(1), None)
        return Samples(model.process.prior_sampling(model.shape, noise), 1)


class Unstarted(HeunSampler):
    """Ignores where it is to start."""

    def sample(self, model, noise, start=None):
        """From the prior."""
        return super().sample(model, noise, None)


@planted(
    (Stopping, "the mean is|the standard deviation is"),
    (
        sampling(lambda m, n, s, r: Samples(1.2 * (r.x - 0.5) + 0.5, r.nfe)),
        "the standard deviation",
    ),
    (sampling(lambda m, n, s, r: Samples(r.x + 0.1, r.nfe)), "the mean is"),
    (
        sampling(lambda m, n, s, r: Samples(r.x + 1e-3 * torch.randn(r.x.shape), r.nfe)),
        "same noise",
    ),
    (sampling(lambda m, n, s, r: Samples(r.x - r.x.mean() + 0.5, r.nfe)), "depends on its batch"),
    (sampling(lambda m, n, s, r: Samples(r.x, r.nfe - 1)), "reports .* evaluations a sample"),
    (sampling(lambda m, n, s, r: Samples(r.x[:, :1], r.nfe)), "items have shape"),
    (Unstarted, "does it start there"),
)
def test_defects_of_samplers_are_named(cls, sentence):
    """Moments, noise, batches, counts, starts."""
    with pytest.raises(AssertionError, match=sentence):
        check_sampler(cls, {"nfe": 60})


# Tasks and metrics -------------------------------------------------------------------------


TWO_SAMPLERS = {"nfe": 8, "samplers": ("deis",), "budgets": (6,), "weights": (1.0,)}
SMALL_OPTIONS = dict.fromkeys(("noise_sensitivity", "prompt_noise_sensitivity"), TWO_SAMPLERS)


@named("tasks")
def test_tasks_conform(cls):
    """All of them, small, on both tracks."""
    check_task(cls, SMALL_OPTIONS.get(cls.name))


class DrawOptions(GenerationOptions):
    """Two options."""

    nfe: int = Field(10, ge=1, description="evaluations")
    scale: float = Field(1.0, gt=0, description="factor of the samples")


class Draw(Generation):
    """Generation, to plant defects in."""

    name = "draw"
    options_type = DrawOptions

    def uses(self):
        """Heun."""
        return {"samplers": ("heun", {"nfe": self.options.nfe})}

    def draw(self, context, start, count):
        """Scaled samples."""
        drawn = super().draw(context, start, count)
        return drawn | {"x": self.options.scale * drawn["x"]}


def task(**methods):
    """The task with a defect."""
    return type("Changed", (Draw,), {"__doc__": "A defect."} | methods)


def drawn(change):
    """A task whose draws are changed."""

    def draw(self, context, start, count):
        return change(Draw.draw(self, context, start, count), context, start, count)

    return task(draw=draw)


@planted(
    (
        drawn(lambda d, s, i, n: {"x": d["x"] + torch.randn(())}),
        "drawn again, the items are others",
    ),
    (drawn(lambda d, s, i, n: {"x": d["x"] - d["x"].mean()}), "the chunk in which it is drawn"),
    (drawn(lambda d, s, i, n: {"x": d["x"] + i}), "the chunk in which it is drawn"),
    (drawn(lambda d, s, i, n: {"x": d["x"][:1]}), "'x' of 6 items has shape"),
    (drawn(lambda d, s, i, n: {"x": d["x"] * float("nan")}), "is not a number"),
    (drawn(lambda d, s, i, n: {"x": 0 * d["x"]}), "another seed draws the same items"),
    (
        drawn(
            lambda d, s, i, n: d | {"y": next(s.model.parameters()).data.add_(1).sum().expand(n)}
        ),
        "drawn again, the items are others|drawing changes the model's weights",
    ),
    (task(cost=lambda self, model: Cost(1)), "its cost says 1"),
    (task(total=lambda self, context: 0), "not a positive number"),
    (task(total=lambda self, context: 7), "--samples does not make it shorter"),
    (task(protocol=lambda self, context: {"nfe": self.options.nfe}), "option .* not its protocol"),
    (task(protocol=lambda self, context: self.options.model_dump()), "holds batch_size"),
    (task(skip=lambda self, model: "never"), "skips the models of all tracks"),
    (task(preview=lambda self, s, a: {"all": a["x"] + 9}), r"picture 'all' leaves \[0, 1\]"),
)
def test_defects_of_tasks_are_named(cls, sentence):
    """Seeds, chunks, shapes, costs, protocols."""
    check_task(Draw)
    with pytest.raises(AssertionError, match=sentence):
        check_task(cls)


@named("metrics")
def test_metrics_conform(cls):
    """On images, or on the points that one is for; those without weights give a reason."""
    if cls is BaseInceptionFID:  # skipped without weights, so that the base need not draw
        with pytest.raises(AssertionError, match=r"nothing of these data.*pt_inception"):
            check_metric(cls)
        return
    context = None
    if cls is FrontierGap:
        data = Gaussians.create({"train_size": 200, "test_size": 200}).load()
        judge = Bayes.create()
        judge.fit(data, 0, CPU)
        torch.manual_seed(0)
        model = toy_model(None, data).requires_grad_(False)
        context = toy_context(data=data, model=model, judge=judge, targets=(1,))
    tasks = {
        name: registry().create("tasks", name, options | {"batch_size": 4})
        for name, options in SMALL_OPTIONS.items()
    }
    check_metric(cls, context=context, tasks=tasks)


class BrightnessOptions(Options):
    """One option."""

    factor: float = Field(1.0, gt=0, description="of the mean")


class Brightness(Metric[BrightnessOptions]):
    """Mean brightness of the samples."""

    name = "brightness"
    tasks = ("generation",)
    wrong: dict = {}

    def protocol(self, context, task):
        """The factor and the task."""
        settings = task.protocol(context) | {"factor": self.options.factor}
        return MetricProtocol(name="brightness", settings=settings)

    def measure(self, context, task, artifact):
        """One row, with what is wrong in it."""
        x = artifact["x"]
        fields = {
            "task": task.name,
            "metric": self.name,
            "split": "samples",
            "protocol": self.protocol(context, task).id,
            "value": self.options.factor * float(x.double().mean()),
            "unit": "1",
            "n": len(x),
            "direction": "down",
        }
        return [Row(**fields | self.wrong)]


def measuring(**wrong):
    """The metric with wrong fields."""
    return type("Changed", (Brightness,), {"__doc__": "A defect.", "wrong": wrong})


def metric(**methods):
    """The metric with other methods."""
    return type("Changed", (Brightness,), {"__doc__": "A defect."} | methods)


def remeasured(change):
    """A metric whose rows are changed."""

    def measure(self, context, task, artifact):
        return change(Brightness.measure(self, context, task, artifact), artifact)

    return metric(measure=measure)


def bright(rows, **changes):
    """The first row, changed."""
    return [rows[0].model_copy(update=changes)]


@planted(
    (measuring(task="likelihood"), "names the task 'likelihood'"),
    (measuring(protocol="other@1"), "names the protocol 'other@1'"),
    (measuring(unit=""), "has no unit"),
    (measuring(n=100_000), "counts 100000 items"),
    (measuring(n=3), "n is 3 of fewer items, as of all"),
    (measuring(n=0), "has a value of no items"),
    (measuring(direction="none"), "the first row is the headline and says no direction"),
    (measuring(low=5.0, high=9.0, value=1.0), r"1.0 is not in \[5.0, 9.0\]"),
    (remeasured(lambda rows, a: []), "no row"),
    (remeasured(lambda rows, a: rows + rows), "two rows have one name"),
    (
        remeasured(lambda rows, a: bright(rows, value=float(torch.rand(())))),
        "measured again, its rows are others",
    ),
    (
        remeasured(lambda rows, a: [a["x"].mul_(2), rows][1]),
        "measuring changes 'x' of the artifact",
    ),
    (
        metric(protocol=lambda self, s, task: MetricProtocol(name="brightness", settings={})),
        "option 'factor' changes its rows, not its protocol",
    ),
    (
        metric(protocol=lambda s, u, t: MetricProtocol(name="b", settings={"id": id(s)})),
        "the hash of its protocol changes",
    ),
    (
        metric(
            columns=(MetricColumn(metric="brightness", label="brightness", direction="up"),),
        ),
        "brightness on samples is 'down', its column 'brightness' says 'up'",
    ),
    (
        metric(evidence=lambda *args: {"n": torch.tensor(7)}, recompute=lambda evidence: []),
        "brightness on samples by brightness@1 does not follow from the evidence",
    ),
    (metric(protocols=("dark/",)), "the name 'brightness' begins with no"),
    (metric(latest_version=0), "brightness@1 is beyond latest_version = 0"),
    (metric(tasks="generation"), "tasks is 'generation', not a tuple of names"),
    (metric(tasks=("generations",)), "reads an unknown task.*did you mean 'generation'"),
    (metric(skip=lambda self, scene, model: "never"), "says nothing of these data and models"),
)
def test_defects_of_metrics_are_named(cls, sentence):
    """Rows, counts, intervals, determinism, protocols."""
    check_metric(Brightness)
    with pytest.raises(AssertionError, match=sentence):
        check_metric(cls)


# Executors and trackers --------------------------------------------------------------------


def future_of(function, job, caught=Exception):
    """The future of a job that is done at once, in this process."""
    future = concurrent.futures.Future()
    try:
        future.set_result(function(job))
    except caught as error:
        future.set_exception(error)
    return future


class Serial(Executor):
    """One job after the other, in this process."""

    name = "serial"

    def pool(self, resources):
        """Of no workers."""
        return pool_of(future_of)


def pool_of(submit):
    """A pool that submits so."""
    methods = {"submit": lambda self, function, job: submit(function, job)}
    return type("Pool", (concurrent.futures.Executor,), methods)()


def executor(submit):
    """An executor with a defect."""
    return type("Changed", (Serial,), {"__doc__": "A defect.", "pool": lambda *_: pool_of(submit)})


def uncaught(function, job):
    """What a job raises is raised by ``submit``."""
    return future_of(function, job, caught=())


def swallowing(function, job):
    """Nothing stops it."""
    try:
        return future_of(function, job)
    except KeyboardInterrupt:
        return future_of(lambda job: None, job)


@planted(
    (executor(uncaught), "submit raises what a job ends with"),
    (executor(lambda f, job: f(("do", job[1]))), "submit returns no future"),
    (executor(lambda f, job: future_of(f, ("do", 0))), "the outcome of job 1 is"),
    (executor(lambda f, job: future_of(f, ("do", job[1]))), "of job 3, which is to raise, is"),
    (executor(swallowing), "swallows a KeyboardInterrupt"),
)
def test_defects_of_executors_are_named(cls, sentence):
    """Outcomes, failures, Ctrl-C; a KeyboardInterrupt may be raised by either."""
    check_executor(Serial)
    with pytest.raises(AssertionError, match=sentence):
        check_executor(cls)


class Diary(Tracker):
    """Keeps the names of stages."""

    name = "diary"

    def __init__(self, config=None):
        super().__init__(config)
        self.stages = []

    @hookimpl
    def stage_ended(self, stage, seconds):
        """Another one."""
        self.stages.append((stage, round(seconds)))


def tracker(hook, name="step_ended", arguments="self, values"):
    """A tracker with a defect: ``hook`` is the body of a life-cycle hook."""
    names = {"hookimpl": hookimpl}
    exec(f"@hookimpl\ndef {name}({arguments}):\n    {hook}\n", names)
    return type("Changed", (Tracker,), {"__doc__": "A defect.", "name": "wrong", name: names[name]})


@planted(
    (type("Mute", (Tracker,), {"__doc__": "A defect.", "name": "mute"}), "hears no hook"),
    (tracker("print('step')"), "prints to stdout"),
    (tracker("values.clear()"), "step_ended changes its arguments"),
    (tracker("int(values.get('x', 0))"), "step_ended raises ValueError"),
    (tracker("self.a.b", "run_failed", "self"), "run_failed raises AttributeError"),
    (tracker("pass", "stage_ended", "self, stagee"), "stagee"),
)
def test_defects_of_trackers_are_named(cls, sentence):
    """Hooks, stdout, what they are given."""
    check_tracker(Diary)
    with pytest.raises(AssertionError, match=sentence):
        check_tracker(cls)
