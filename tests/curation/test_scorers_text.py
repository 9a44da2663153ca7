"""The text scorer on rendered frames: captions of known size are measured, textless frames stay silent."""

import socket

import av
import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create, ppocr, text
from reelmill.errors import ConfigError, WeightsError

HEIGHT, WIDTH = 256, 456


@pytest.fixture(scope="module")
def scorer():
    made = create("text")
    made.setup()
    return made


@pytest.fixture(scope="module")
def every_frame():
    made = create("text", {"every_frame": True})
    made.setup()
    return made


def sample(images):
    images = np.stack(images)
    return Sample(
        "s", "i", "video", 0.0, 1.0, 64, 64, 30.0, Frames(images, np.zeros(len(images)), images[:0, :3, :, 0])
    )


def scenery(seed):
    """A textless picture: clouds at several scales, coloured."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        grid = rng.normal(size=(cells, 2 * cells, 3)).astype(np.float32)
        picture += cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * 60 / cells**0.5
    return np.clip(picture + rng.uniform(60, 190, 3), 0, 255).astype(np.uint8)


def captioned(picture, lines, size=18):
    """The picture with lines of white text near its lower edge, and the share of it that their tight boxes cover."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    area = 0.0
    for number, line in enumerate(lines):
        box = draw.textbbox((0, 0), line, font=font)
        left, top = (WIDTH - box[2]) / 2, HEIGHT - 1.9 * size * (len(lines) - number)
        draw.text((left, top), line, font=font, fill="white", stroke_width=1, stroke_fill="black")
        area += (box[2] - box[0]) * (box[3] - box[1])
    return np.asarray(image), area / (HEIGHT * WIDTH)


def test_textless_frames_are_silent(every_frame):
    frames = [scenery(seed) for seed in range(6)]
    frames += [np.full((HEIGHT, WIDTH, 3), 255, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)]
    shapes = scenery(7)
    cv2.circle(shapes, (100, 100), 40, (255, 255, 255), -1)
    cv2.rectangle(shapes, (250, 60), (330, 140), (20, 20, 20), -1)
    assert every_frame.score([sample([*frames, shapes])]) == [{"text_area": 0.0, "text_boxes": 0.0, "text_frames": 9}]


def test_real_footage_without_text_is_silent(scorer):
    with av.open(weights.path("media-bigbuckbunny")) as container:
        decoded = (frame for number, frame in enumerate(container.decode(video=0)) if number % 12 == 0)
        frames = [frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT) for frame in decoded]
    assert len(frames) == 11
    assert scorer.score([sample(frames)]) == [{"text_area": 0.0, "text_boxes": 0.0, "text_frames": 6}]
    written = [captioned(frame, ["a rabbit wakes up in the meadow"])[0] for frame in frames]
    (row,) = scorer.score([sample(written)])
    assert row["text_boxes"] >= 1
    assert row["text_area"] > 0.01


@pytest.mark.parametrize("size", [14, 18, 26])
def test_a_burnt_in_caption_is_measured(scorer, size):
    frame, area = captioned(scenery(1), ["the quick brown fox jumps over"], size)
    (row,) = scorer.score([sample([frame])])
    assert row["text_boxes"] == 1
    # The detector's boxes stand off the letters a little.
    assert area < row["text_area"] < 3 * area


def test_area_and_boxes_are_means_over_the_frames(scorer):
    two_lines, _ = captioned(scenery(2), ["first line of the text", "and a second one below"])
    (alone,) = scorer.score([sample([two_lines])])
    (half,) = scorer.score([sample([two_lines, scenery(2)])])
    assert alone["text_boxes"] == 2
    assert half["text_boxes"] == 1
    assert half["text_area"] == pytest.approx(alone["text_area"] / 2)


@pytest.mark.parametrize("at", range(5))
def test_text_in_every_second_frame_makes_it_look_at_all(scorer, every_frame, at):
    """A line in one frame of five: seen in the first, third and fifth, and measured as by looking at all of them."""
    frames = [scenery(5)] * 5
    frames[at], _ = captioned(scenery(5), ["a single line of text"])
    (row,), (whole,) = scorer.score([sample(frames)]), every_frame.score([sample(frames)])
    assert whole["text_boxes"] == 0.2 and whole["text_frames"] == 5
    assert row == (whole if at % 2 == 0 else {"text_area": 0.0, "text_boxes": 0.0, "text_frames": 3})


def test_a_caption_breaks_the_recipes_bound_and_scenery_keeps_it(scorer):
    frame, _ = captioned(scenery(3), ["breaking news from all over the world", "more at eleven o'clock tonight"], 20)
    rows = scorer.score([sample([frame]), sample([scenery(3)])])
    assert rows[0]["text_area"] > 0.03 > rows[1]["text_area"]


def test_it_works_without_a_network(scorer, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    fresh = create("text")
    fresh.setup()
    frame, _ = captioned(scenery(4), ["offline text here"])
    assert fresh.score([sample([frame])]) == scorer.score([sample([frame])])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (17, 300), (400, 40), (32, 9000)])
def test_odd_sizes_are_scored(scorer, height, width):
    (row,) = scorer.score([sample([np.full((height, width, 3), 90, np.uint8)])])
    assert row["text_area"] == 0


@pytest.fixture(scope="module")
def rapidocr():
    """The package's own detection, with the settings that are ours."""
    from rapidocr import RapidOCR

    limits = {"Global.max_side_len": ppocr.LONGEST, "Det.limit_type": "max", "Det.limit_side_len": ppocr.LONGEST}
    ours = {"Det.mean": ppocr.MEAN, "Det.std": ppocr.STD, "Det.box_thresh": ppocr.BOX_CONFIDENCE}
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = RapidOCR(params={"Global.log_level": "critical", **limits, **ours, **threads})

    def detect(image):
        found = engine(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), use_det=True, use_cls=False, use_rec=False).boxes
        return [] if found is None else np.asarray(found).astype(np.int32).tolist()

    return detect


def written(seed, height, width):
    """Scenery of this size with a few words, some of them turned."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(scenery(seed), (width, height))
    for word in ("first words", "SECOND", "and a third, longer line"):
        layer = np.zeros((height, width), np.uint8)
        place = (int(rng.integers(0, width // 2)), int(rng.integers(height // 3, height)))
        cv2.putText(layer, word, place, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.5, 1.2)), 255, 2)
        angle = float(rng.choice([0, 0, 45, 90, rng.uniform(-90, 90)]))
        layer = cv2.warpAffine(layer, cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1), (width, height))
        picture[layer > 128] = rng.integers(0, 256, 3)
    return picture


# Common sizes; then what is too wide, too low, too small, too long for the network as it is.
@pytest.mark.parametrize(
    ("height", "width"),
    [(256, 455), (256, 341), (144, 193), (60, 700), (28, 300), (25, 20), (2100, 40)],
)
def test_boxes_are_those_of_the_rapidocr_package(scorer, rapidocr, height, width):
    pictures = [written(seed, height, width) for seed in range(2)]
    found = [sorted(boxes.tolist()) for boxes in scorer.detect(pictures)]
    assert found == [sorted(rapidocr(picture)) for picture in pictures]
    assert any(found) or min(height, width) <= 40


def test_frames_that_are_looked_at_together_have_the_boxes_of_each_alone(scorer):
    pictures = [written(seed, 144, 193) for seed in range(5)]
    together = ppocr.PpOcr("cpu", batch=3)(pictures)
    assert [boxes.tolist() for boxes in together] == [scorer.detect([picture])[0].tolist() for picture in pictures]
    assert any(map(len, together)) and scorer.detect.batch == 1


@pytest.mark.parametrize(
    ("device", "offered", "sees_gpu", "first"),
    [
        ("auto", [ppocr.CUDA, ppocr.CPU], True, ppocr.CUDA),
        ("auto", ["TensorrtExecutionProvider", ppocr.CUDA, ppocr.CPU], True, ppocr.CUDA),
        ("auto", [ppocr.CUDA, ppocr.CPU], False, ppocr.CPU),  # hidden from the worker
        ("auto", ["AzureExecutionProvider", ppocr.CPU], True, ppocr.CPU),
        ("cpu", [ppocr.CUDA, ppocr.CPU], True, ppocr.CPU),
        ("cuda", [ppocr.CUDA, ppocr.CPU], True, ppocr.CUDA),
    ],
)
def test_the_network_runs_where_onnxruntime_can_run_it(device, offered, sees_gpu, first):
    chosen = ppocr.execution_providers(device, offered, sees_gpu=sees_gpu)
    assert (chosen[0] if isinstance(chosen[0], str) else chosen[0][0]) == first
    assert chosen[-1] == ppocr.CPU


def test_a_gpu_that_is_asked_for_is_there_or_that_is_said():
    for offered, sees_gpu, found in (
        ([ppocr.CPU], True, "the installed onnxruntime has CPU"),
        ([ppocr.CUDA, ppocr.CPU], False, "this worker sees no GPU"),
    ):
        with pytest.raises(ConfigError, match=f"device is cuda, and {found}.*onnxruntime-gpu.*or set it to auto"):
            ppocr.execution_providers("cuda", offered, sees_gpu=sees_gpu)
    with pytest.raises(ConfigError, match="scorer text: device is cuda, and the installed onnxruntime has"):
        create("text", {"device": "cuda"}).setup()


@pytest.mark.gpu
@pytest.mark.skipif(ppocr.CUDA not in onnxruntime.get_available_providers(), reason="this onnxruntime is the CPU's")
def test_a_gpu_finds_the_boxes_of_the_cpu():
    """Within a pixel: it adds in another order, and a box is rounded to whole pixels."""
    pictures = [written(seed, 256, 455) for seed in range(8)]
    for one, other in zip(ppocr.PpOcr("cpu")(pictures), ppocr.PpOcr("cuda")(pictures), strict=True):
        assert one.shape == other.shape and np.abs(np.sort(one, 0) - np.sort(other, 0)).max(initial=0) <= 1


def rectangle(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_denormals_are_zero_for_the_detector_alone(scorer):
    """It would take three times as long, and everything after it in this process would compute otherwise."""
    scorer.score([sample([scenery(0)])])
    smallest = np.array([5e-324])
    assert (smallest * 1.0)[0] > 0
    assert scorer.detect.thread.submit(lambda: smallest * 1.0).result()[0] == 0


def test_overlapping_boxes_count_once():
    boxes = np.array([rectangle(0, 0, 49, 9), rectangle(25, 0, 74, 9), rectangle(0, 50, 9, 99)], np.int32)
    assert text.union_area(boxes, (100, 100)) == pytest.approx((75 * 10 + 10 * 50) / 10000)
    assert text.union_area(boxes[:0], (100, 100)) == 0


def test_only_lines_of_text_are_kept():
    line, column = rectangle(0, 0, 60, 10), rectangle(0, 0, 10, 60)
    square, blob = rectangle(0, 0, 20, 20), rectangle(0, 0, 90, 40)
    boxes = np.array([line, column, square, blob], np.int32)
    assert text.lines_of_text(boxes, (100, 100)).tolist() == [line, column]


def test_a_missing_provider_names_the_extra():
    scorer = create("text", {"provider": "paddleocr"})
    if text.importlib.util.find_spec("paddleocr"):
        pytest.skip("paddleocr is installed")
    with pytest.raises(WeightsError, match=r"pip install 'reelmill\[paddleocr\]'"):
        scorer.setup()


class PaddleAnswers:
    """Answers as `paddleocr.TextDetection.predict` does."""

    def __init__(self, **options):
        self.options = options

    def predict(self, image):
        self.seen = image
        return [{"dt_polys": np.array([rectangle(10, 10, 100, 30)]), "dt_scores": [0.9]}]


def test_the_paddleocr_provider_reads_its_packages_answers(monkeypatch):
    import sys
    import types
    from importlib.machinery import ModuleSpec

    package = types.ModuleType("paddleocr")
    package.__spec__ = ModuleSpec("paddleocr", None)
    package.TextDetection = PaddleAnswers
    monkeypatch.setitem(sys.modules, "paddleocr", package)
    scorer = create("text", {"provider": "paddleocr", "model": "PP-OCRv5_mobile_det", "model_folder": "models"})
    scorer.setup()
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[..., 0] = 200
    (row,) = scorer.score([sample([frame])])
    assert row["text_boxes"] == 1
    assert row["text_area"] == pytest.approx(91 * 21 / (HEIGHT * WIDTH))
    used = scorer.detect._model
    assert used.seen[0, 0].tolist() == [0, 0, 200]  # OpenCV's order
    assert used.options["model_name"] == "PP-OCRv5_mobile_det"
