"""What a report says in words: alignment beside quality, unclear where it is, and failure only where it shows."""

import pytest
import torch

from mmdisco_cli.evaluation.tables import cell
from mmdisco_cli.evaluation.verdict.conclusion import conclude, difference_of
from mmdisco_cli.evaluation.verdict.failures import failures, repeated
from mmdisco_cli.evaluation.verdict.quality import judge_quality
from mmdisco_cli.measures.distances import BUILT_IN, distances
from mmdisco_cli.measures.scoring import ScoredClip


def figure(value, low, high, **more):
    return {"value": value, "low": low, "high": high, **more}


def aligned(low, high, n=96, **more):
    middle = (low + high) / 2
    return {
        "real": figure(0.95, 0.94, 0.96),
        "independent": figure(0.2, 0.15, 0.25),
        "guided": figure(0.2 + middle, 0.15 + middle, 0.25 + middle),
        "difference": figure(middle, low, high, n=n),
        **more,
    }


def kernel(independent, low, high, **more):
    change = (low + high) / 2
    rows = {"independent": independent, "guided": independent + change}
    figures = {row: figure(value, value - 0.02, value + 0.02) for row, value in rows.items()}
    return {**figures, "difference": figure(change, low, high), **more}


def covered(independent, low, high):
    return kernel(independent, low, high)


SAME, WORSE, UNCLEAR, BETTER = (0.5, -0.03, 0.03), (0.5, 0.1, 0.2), (0.5, -0.1, 0.2), (0.5, -0.3, -0.1)


@pytest.mark.parametrize("protocol", ["event_iou", "agreement", "mass_on_modes", "av_align_gain"])
@pytest.mark.parametrize(
    ("kinds", "ending", "good"),
    [
        ([SAME, SAME], "and cost nothing in quality.", True),
        ([SAME, WORSE], "at a cost in quality: KD motion 0.5 to 0.65.", None),
        ([SAME, UNCLEAR], "and what it cost in quality is not certain (KD motion).", True),
        ([WORSE, UNCLEAR], "at a cost in quality: KD log-mel 0.5 to 0.65.", None),
        ([SAME, BETTER], "and cost nothing in quality; nearer to real by KD motion 0.5 to 0.3.", True),
    ],
)
def test_alignment_and_quality_are_one_sentence(protocol, kinds, ending, good):
    metrics = {protocol: aligned(0.4, 0.6), "kd_logmel": kernel(*kinds[0]), "kd_motion": kernel(*kinds[1])}
    found = conclude(metrics)
    assert found.says.startswith("Guidance helped: ")
    assert found.says.endswith(f" belong together more often, {ending}")
    assert (found.good, found.metric) == (good, protocol)
    assert (
        "0.200 [0.150, 0.250] independent, 0.700 [0.650, 0.750] guided, 0.950 [0.940, 0.960] in real ones"
        in found.because
    )
    assert "KD log-mel 0.500 to " in found.quality


@pytest.mark.parametrize(
    ("low", "high", "n", "says", "good"),
    [
        (
            0.1,
            0.2,
            96,
            "Guidance helped: audio and video belong together more often, and cost nothing in quality.",
            True,
        ),
        (
            -0.2,
            -0.1,
            96,
            "Guidance did harm: audio and video belong together less often, but cost nothing in quality.",
            False,
        ),
        (
            -0.1,
            0.2,
            96,
            "Whether guidance helped alignment is not certain from these samples. It cost nothing in quality.",
            None,
        ),
        (0.1, 0.2, 5, "Too few pairs to tell whether guidance helped: it takes 6. It cost nothing in quality.", None),
    ],
)
def test_what_is_not_certain_is_not_said(low, high, n, says, good):
    found = conclude({"event_iou": aligned(low, high, n), "kd_logmel": kernel(*SAME)})
    assert (found.says, found.good) == (says, good)


def test_nothing_is_said_of_quality_that_was_not_measured():
    found = conclude({"event_iou": aligned(0.1, 0.2)})
    assert found.says == "Guidance helped: audio and video belong together more often."
    assert judge_quality({"kd_logmel": {"real": figure(0, 0, 0), "samples": figure(1, 1, 1)}}) is None
    # One pair has no interval, and so no verdict.
    alone = {"independent": {"value": 0.5}, "guided": {"value": 0.6}, "difference": figure(0.1, None, None)}
    assert "not certain" in conclude({"event_iou": aligned(0.1, 0.2), "kd_logmel": alone}).says


def test_coverage_that_is_lost_is_a_cost_and_coverage_won_is_none():
    lost = conclude({"event_iou": aligned(0.4, 0.6), "coverage_logmel": covered(0.9, -0.3, -0.2)})
    assert lost.says.endswith("at a cost in quality: coverage log-mel 0.90 to 0.65.")
    won = conclude({"event_iou": aligned(0.4, 0.6), "coverage_logmel": covered(0.6, 0.1, 0.2)})
    assert won.says.endswith("and cost nothing in quality; nearer to real by coverage log-mel 0.60 to 0.75.")
    unclear = conclude({"event_iou": aligned(0.4, 0.6), "coverage_logmel": covered(0.9, -0.2, 0.1)})
    assert "what it cost in quality is not certain (coverage log-mel)" in unclear.says


def test_measures_that_are_not_certain_are_named_where_they_are_few_and_counted_where_they_are_many():
    def verdict(count):
        return conclude({"event_iou": aligned(0.1, 0.2), **{f"kd_{k}": kernel(*UNCLEAR) for k in range(count)}})

    assert verdict(2).says.endswith("what it cost in quality is not certain (KD 0, KD 1).")
    assert verdict(3).says.endswith("what it cost in quality is not certain (3 of 3 measures).")
    assert "distances to real clips: lower is better; coverage: higher is better" in verdict(3).quality
    assert all(f"KD {k} 0." in verdict(3).quality for k in range(3))


def test_a_certain_cost_that_is_negligible_is_none():
    found = conclude({"event_iou": aligned(0.4, 0.6), "kd_logmel": kernel(0.5, 0.01, 0.04)})
    assert found.says.endswith("and cost nothing in quality.")
    # Features that a network scales as it likes have no other measure than the independent samples' distance.
    tiny = kernel(0.001, 0.01, 0.02)
    assert conclude({"event_iou": aligned(0.4, 0.6), "kd_logmel": tiny}).good is True
    assert conclude({"event_iou": aligned(0.4, 0.6), "kvd": {**tiny, "protocol": {}}}).good is None


def test_the_first_measure_of_alignment_decides_and_rows_alone_are_described():
    both = {"av_align_gain": aligned(-0.2, -0.1), "event_iou": aligned(0.1, 0.2)}
    assert conclude(both).metric == "event_iou"
    assert conclude({"kd_logmel": kernel(*SAME)}).metric is None
    alone = conclude({"agreement": {"real": figure(0.9, 0.8, 1.0), "samples": figure(0.5, 0.4, 0.6)}})
    assert alone.good is None
    assert "measured of samples alone" in alone.says
    gain = {"samples": figure(0.1, 0.05, 0.15, n=20)}
    assert conclude({"av_align_gain": gain}).good is True


def test_a_difference_is_of_pairs_that_both_have():
    pairs = [(0.0, 1.0), (0.0, 1.0), (None, 1.0), (0.5, 1.0)]
    assert difference_of(pairs, 0)["value"] == pytest.approx(2.5 / 3)
    assert difference_of(pairs, 0)["n"] == 3
    assert difference_of([(None, 1.0)], 0) == {"value": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"n": 5, "pairs": 5}, "Too few pairs to tell whether guidance helped: it takes 6."),
        (
            {"n": 0, "pairs": 0},
            "No guided sample has an independent one of its name, so nothing shows whether guidance",
        ),
        ({"n": 2, "pairs": 40}, "AV-Align above mismatched pairs is defined in 2 of 40 pairs, too few to tell whether"),
        ({"n": 0, "pairs": 1}, "Too few pairs to tell whether guidance helped: it takes 6."),
        ({"n": 0, "pairs": 6}, "AV-Align above mismatched pairs is defined in none of 6 pairs, too few to tell"),
        ({"n": 6, "pairs": 40}, "Whether guidance helped alignment is not certain"),
    ],
)
def test_too_few_pairs_are_said_with_their_reason(found, says):
    rows = aligned(-0.1, 0.2)
    rows["difference"] |= found
    shown = conclude({"av_align_gain": rows})
    assert shown.says.startswith(says)
    assert (shown.good, "over 0 pairs" in shown.because) == (None, False)
    assert ("Difference of samples of the same noise" in shown.because) == (found["n"] > 0)


@pytest.mark.parametrize(
    ("n", "undefined", "says"),
    [
        (3, 0, "Too few clips to tell whether audio and video belong together: it takes 6."),
        (3, 20, "AV-Align above mismatched pairs is defined in 3 of 23 clips, too few to tell whether audio and video"),
        (0, 1, "Too few clips to tell whether"),
        (0, 9, "AV-Align above mismatched pairs is defined in none of 9 clips, too few"),
    ],
)
def test_too_few_clips_are_said_with_their_reason(n, undefined, says):
    one = figure(0.1, 0.05, 0.15, n=n, undefined=undefined)
    assert conclude({"av_align_gain": {"samples": one}}).says.startswith(says)


def scored(row, contents):
    return [ScoredClip(row, None, None, {"row": row, "sha256": content}) for content in contents]


def test_copies_of_a_few_files_are_warned_of():
    guided, other = scored("guided", "aaaaab"), scored("independent", "abcdef")
    assert [line.split(" are ")[0] for line in repeated([*guided, *other])] == ["copies: 6 guided samples"]
    assert "are 1 different file, and" in repeated(scored("samples", "aaa"))[0]
    assert repeated(scored("samples", "abcdea")) == repeated([]) == repeated(scored("samples", ["", ""])) == []
    (line,) = repeated([*scored("guided", "abc"), *scored("independent", "bca")])
    assert "the same files as the independent ones" in line


@pytest.mark.parametrize("row", ["samples", "guided", "independent"])
def test_samples_that_are_all_silent_or_still_are_warned_of(row):
    health = {"real": {"n": 4, "silent": 4, "still": 4}, row: {"n": 4, "silent": 4, "still": 3}}
    (line,) = failures({"health": health})
    assert line.startswith("silent audio: that of all 4 ")
    assert failures({"health": {row: {"n": 0, "silent": 0, "still": 0}}}) == []


def test_samples_that_collapsed_without_guidance_too_are_not_blamed_on_it():
    (line,) = [
        line for line in failures(report_of(normal(200, 8, 2) * 0.2, normal(200, 8, 3) * 0.2)) if "collapse" in line
    ]
    assert "guidance is not the reason" in line
    assert "sample.guidance" not in line


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def report_of(independent, guided, real=None):
    rows = {"real": normal(200, 8, 0), "independent": independent, "guided": guided}
    chosen = BUILT_IN[0].names
    reference = {"kd_logmel": normal(200, 8, 1) if real is None else real}
    return distances({row: {"kd_logmel": x} for row, x in rows.items()}, reference, chosen, BUILT_IN[:1])


def clusters(n, of, seed):
    """Return clips of a few kinds, of which the first `of` occur."""
    kind = torch.randint(of, (n,), generator=torch.Generator().manual_seed(seed))
    return normal(n, 8, seed) * 0.3 + 4 * torch.eye(8, dtype=torch.float64)[kind]


def test_a_mode_that_guidance_drops_is_warned_of():
    metrics = report_of(clusters(200, 4, 2), clusters(200, 2, 3), real=clusters(200, 4, 4))
    (line,) = [line for line in failures(metrics) if line.startswith("mode dropping")]
    assert "cover by log-mel 0." in line
    assert "sample.guidance" in line
    assert "sample.window" in line


def test_samples_that_are_all_alike_are_warned_of():
    metrics = report_of(normal(200, 8, 2), normal(200, 8, 3) * 0.2)
    lines = failures(metrics)
    assert [line.split(":")[0] for line in lines if line.startswith("collapse")] == ["collapse"]
    assert "as far apart as real ones, independent " in "".join(lines)
    alone = distances(
        {"samples": {"kd_logmel": normal(60, 8, 2) * 0.2}},
        {"kd_logmel": normal(60, 8, 1)},
        BUILT_IN[0].names,
        BUILT_IN[:1],
    )
    assert any(line.startswith("collapse: samples are") for line in failures(alone))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [12, 60, 200])
def test_healthy_samples_are_not_warned_of(seed, n):
    # As good as real ones, and as poor as base models are, alike in both rows.
    good = report_of(normal(n, 8, 10 + seed), normal(n, 8, 100 + seed))
    poor = report_of(normal(n, 8, 10 + seed, 1.0), normal(n, 8, 100 + seed, 1.0))
    assert failures(good) == failures(poor) == []


def shares(independent, guided, n):
    def row(share):
        return {"three": {"value": share}, "seven": {"value": 1 - share}, "min": 0, "max": 1, "n": n}

    return {"digit_share": {"image": {"independent": row(independent), "guided": row(guided)}}}


@pytest.mark.parametrize(
    ("independent", "guided", "n", "warned"),
    [
        (0.1, 0.0, 96, True),
        (0.1, 0.02, 500, True),
        (0.1, 0.06, 500, False),
        (0.1, 0.0, 12, False),
        (0.1, 0.1, 500, False),
    ],
)
def test_a_known_class_that_is_no_longer_made_is_warned_of(independent, guided, n, warned):
    lines = failures(shares(independent, guided, n))
    assert bool(lines) == warned
    assert all(line.startswith("mode dropping: three is ") for line in lines)


@pytest.mark.parametrize("seed", range(20))
def test_classes_made_equally_often_are_silent(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = {
        row: {
            **{
                str(k): {"value": float(c) / 96}
                for k, c in enumerate(torch.randint(10, (96,), generator=generator).bincount(minlength=10))
            },
            "n": 96,
        }
        for row in ("independent", "guided")
    }
    assert failures({"digit_share": {"image": rows, "audio": rows}}) == []


def test_figures_of_any_size_are_short_and_what_rounds_to_nothing_has_no_sign():
    far = {"independent": figure(1.5e12, 1e12, 2e12), "guided": figure(-1e-5, -2e-4, 2e-4)}
    found = judge_quality({"kd_logmel": {**far, "difference": figure(-1.5e12, -2e12, -1e12)}})
    assert found is not None
    assert "KD log-mel 1.5e+12 to 0.000, difference -1.5e+12 [-2e+12, -1e+12]" in found.because
    assert cell(figure(-1e-5, -2e-4, 2e-4)) == "0.000 [0.000, 0.000]"
    assert cell(figure(-0.01, -0.02, 0.0)) == "-0.010 [-0.020, 0.000]"
