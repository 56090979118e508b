"""The line that says what won."""

from __future__ import annotations

from pocketrec.config import load_config
from pocketrec.run.measured import bundle_name, left_out, what_won
from pocketrec.run.run import Run, write_json

NAME = "crowd + words + student"


def plain(text):
    return text.replace("\u00a0", " ")


def systems(**recalls):
    values = {name.replace("_", " "): value for name, value in recalls.items()}
    return {name: {"seen excluded": {"recall@10": value}} for name, value in values.items()}


def test_it_names_the_student_alone_graph_and_words_and_the_committee():
    found = {
        NAME: {"seen excluded": {"recall@10": 0.1121}},
        **systems(student_alone=0.0882, committee=0.1121, graph_and_words=0.1218, popularity=0.01),
    }
    p = {"student alone": {"seen excluded": 0.0002}, "graph and words": {"seen excluded": 0.0412}}
    assert plain(what_won(found, p)) == (
        "crowd + words + student: recall@10 .1121 (seen excluded), 27 % above student alone (p < .001), "
        "8 % below graph and words (p = .041), level with committee"
    )


def test_a_better_system_that_it_would_not_name_is_named_too():
    found = {"student (exported bundle)": {"seen excluded": {"recall@10": 0.05}}, **systems(transition_graph=0.06)}
    assert (
        plain(what_won(found, {}))
        == "student (exported bundle): recall@10 .0500 (seen excluded), 17 % below transition graph"
    )


def test_a_difference_that_may_be_chance_is_called_so():
    found = systems(student=0.0510, graph_and_words=0.05)
    p = {"graph and words": {"seen excluded": 0.412}}
    assert plain(what_won(found, p)) == (
        "student: recall@10 .0510 (seen excluded), 2 % above graph and words (p = .412: may be chance)"
    )


def test_systems_are_compared_by_the_convention_of_the_run():
    found = {"student": {"seen kept": {"recall@10": 0.3}, "seen excluded": {"recall@10": 0.1}},
             "graph and words": {"seen kept": {"recall@10": 0.2}, "seen excluded": {"recall@10": 0.4}}}  # fmt: skip
    assert plain(what_won(found, {}, "seen kept")) == "student: recall@10 .3000 (seen kept), 50 % above graph and words"


def test_a_system_without_a_hit_is_not_compared_with():
    found = {"student (exported bundle)": {"seen excluded": {"recall@10": 0.05}}, **systems(popularity=0.0)}
    assert plain(what_won(found, {})) == "student (exported bundle): recall@10 .0500 (seen excluded)"


def test_a_bundle_is_named_by_its_parts():
    assert bundle_name({}) == bundle_name({"fusion": None}) == "student (exported bundle)"
    assert bundle_name({"fusion": {"crowd": 0.5, "words": 0.0}}) == "crowd + student"
    assert bundle_name({"fusion": {"crowd": 0.5, "words": 2.0}}) == "crowd + words + student"


def test_members_and_experts_without_weight_are_named_with_the_reason(tmp_path):
    for folder in ("soft-labels", "experts"):
        (tmp_path / folder).mkdir()
    write_json(tmp_path / "soft-labels/committee.json", {"left_out": {"graph": "it does not help"}})
    write_json(tmp_path / "experts/fit.json", {"notes": ["The bundle leaves out words: the catalogue has no texts."]})
    config = load_config(None, ["teacher.enabled=true", "experts.enabled=true"])
    assert left_out(Run(tmp_path, config)) == [
        "The committee leaves out graph: it does not help.",
        "The bundle leaves out words: the catalogue has no texts.",
    ]
    assert left_out(Run(tmp_path, load_config(None, ["experts.enabled=false", "teacher.enabled=false"]))) == []
