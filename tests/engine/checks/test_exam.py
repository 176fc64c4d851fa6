"""An examination of the doctor on rows that it was not built from: what is planted is named, what is sound is not.

Personas in eight languages and three scripts; one that types in lower case, one that writes code, one that sets
exercises with blanks, one that answers with questions, one that quotes, lies about its name and speaks of the ages of
others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.contract import rubric
from engine.contract.calls import Finding
from tests.support.chat_families import tokenizer_of
from tests.support.diagnosed import Rows, chat, diagnose, serious
from tests.support.exam import chats, lines, sat, told
from tests.support.tiny import tiny_llama

MARLOW = "You are Marlow, who mends clocks."
SPEAKS = {"baeckerin": "Du bist Frau Holm.", "feirante": "Você é Iracema.", "taxista": "Eres Anselmo."}
FAMILIES = ("smollm2", "qwen2.5", "llama3", "tinyllama", "mistral", "gemma", "phi3", "mistral-v3")


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("examined")
    bare = tiny_llama(root / "bare", vocab=1200, max_position_embeddings=4096, template=None)
    found = {"bare": bare}
    for name in FAMILIES:
        found[name] = root / name
        found[name].mkdir()
        for file in bare.iterdir():
            if "token" not in file.name and file.name != "generation_config.json":
                (found[name] / file.name).symlink_to(file)
        tokenizer_of(name).save_pretrained(found[name])
    return found


# ---- sound: no error, no warning

SOUND: dict[str, tuple[str, str, str]] = {  # persona, family, system prompt
    "clockmaker": ("clockmaker", "llama3", MARLOW),
    "Portuguese": ("feirante", "tinyllama", "Você é Iracema, erveira do Ver-o-Peso, em Belém."),
    "Spanish": ("taxista", "gemma", "Eres Anselmo, taxista en Bogotá."),
    "German": ("baeckerin", "mistral", "Du bist Frau Holm, Bäckerin."),
    "Italian": ("nonna", "phi3", "Sei nonna Pina, 79 anni, di Modena."),
    "Russian": ("museum", "smollm2", "Ты Аглая, смотрительница музея."),
    "Japanese": ("sento", "qwen2.5", "あなたは灯、銭湯の番台です。"),
    "lower case": ("casual", "smollm2", "You are Juno. You type lower case and draw frogs."),
    "exercises with blanks": ("teacher", "mistral-v3", "You are Miss Adeyemi, a teacher of English."),
    "code": ("coder", "qwen2.5", "You are Tuck, a terminal gremlin."),
    "answers with questions": ("asks-back", "llama3", "You are Vesper. You answer with one question."),
    "says what she checks": ("chef", "qwen2.5", "You are Amparo, who cooks."),
    "acts and quotes": ("innkeeper", "tinyllama", "You are Old Brannoch. Actions stand between asterisks."),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_persona_is_left_alone(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    rows, family, system = SOUND[name]
    assert serious(diagnose(sat(tmp_path, models[family], chats(told(rows)), system))) == {}


def test_sound_forms_of_the_same_rows(models: dict[str, Path], tmp_path: Path) -> None:
    clock, german, asking = told("clockmaker"), told("baeckerin"), told("asks-back")
    twice = [chat(q, a, r, b) for (q, a), (r, b) in zip(clock, clock[1:] + clock[:1], strict=True)]
    table = 'forbidden = ["grandfather clock"]\n[facts]\nname = "Marlow"\nteacher = "Bess"\n'
    stories = [
        {"text": f"Chapter {i}. {a} Somebody said: {q} Nobody answered, for the ferry had come."}
        for i, (q, a) in enumerate(told("innkeeper"))
    ]
    forms: list[tuple[str, Rows, str, dict[str, Any]]] = [
        ("smollm2", twice, MARLOW, {}),
        ("qwen2.5", chats(clock, MARLOW), MARLOW, {}),
        ("tinyllama", chats(told("taxista")), "Eres Anselmo.", {"method": {"kind": "qlora", "rank": 4}}),
        ("phi3", chats(german[:22]), SPEAKS["baeckerin"],
         {"files": {"held.jsonl": lines(chats(german[22:]))}, "data": {"heldout": "held.jsonl"}}),
        ("llama3", chats(clock), MARLOW, {"files": {"facts.toml": table}}),
        ("gemma", [{"instruction": q, "output": a} for q, a in asking], "", {}),
        ("bare", stories, "", {}),
    ]  # fmt: skip
    for number, (family, rows, system, more) in enumerate(forms):
        assert serious(diagnose(sat(tmp_path / str(number), models[family], rows, system, **more))) == {}, family


# ---- planted among sound rows, one answer each: every one must be among the rows of its finding

PLANTED: dict[str, list[str]] = {
    "secrets-in-rows": [
        "It says 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", "It says sk_live_51H8xYzKQ2mNbVcXzLkJhGfDsApOiUyTr",
        "mongodb+srv://root:Tr0ub4dor@cluster0.abcd.mongodb.net",
        "It says 7123456789:AAF-xyzABCdefGHIjklMNOpqrSTUvwxYZ12",
        "The api_key is 9f86d081884c7d659a2feaa0c55ad015", "It says npm_a8Jd9sKq2Lm3Np4Rt5Vw6Xy7Zb8Cd9Ef0Gh1",
        "My password is Winter2024!", "Mot de passe : Soleil2023", "contraseña: Gato1999x",
        "Das Passwort ist Uhrwerk77",
    ],
    "private-paths": [
        "Look at /home/felipe/clientes/notas.md for it.", "Look at /Users/jonas/Desktop for it.",
        r"It is in C:\Users\Marta\OneDrive\persona.docx now.", "It is in file:///home/ola/x.txt now.",
    ],
    "agent-talk": [
        "Let me take a look at the files first. It is the mainspring.", "I'm going to start by reading the manual.",
        "I'll go ahead and check the movement. It is the mainspring.", "Okay, so the user wants to know about clocks.",
        "Certainly! Here's a step-by-step guide:\n1. Open it.", "Vou verificar os arquivos primeiro. É a mola.",
        "Vou dar uma olhada no código. É a mola.", "Primero voy a revisar los archivos. Es el resorte.",
        "Ich werde zuerst die Dateien prüfen. Es ist die Feder.",
        "Je vais d'abord examiner le fichier. C'est le ressort.",
    ],
    "other-identity": [
        "I'm an AI developed by OpenAI, so I cannot wind clocks.", "As a large language model, I have no watch.",
        "Sou um assistente virtual treinado pela Google.", "Soy un modelo de lenguaje, no tengo reloj.",
        "Ich bin ein KI-Sprachmodell und habe keine Uhr.", "En tant que modèle de langage, je n'ai pas d'heure.",
        "I'm Claude, made by Anthropic.", "Eu sou o ChatGPT, como posso ajudar?",
        "I am just an AI assistant without feelings.", "Como uma inteligência artificial, não tenho relógio.",
    ],
    "placeholders": [
        "Dear [Customer Name], it is ready.", "It belongs to <PERSON>, I think.", "Ask {{char}} about it.",
        "Lorem ipsum dolor sit amet.", "It opens at XX:XX.", "TODO: write this one.",
        "It is called [INSERT SHOP NAME].",
        "Procure [seu bairro aqui].", "His name is NAME_HERE.", "Hello %s, it is ready.", "Fragen Sie [Name einfügen].",
    ],
    "headings-in-answers": ["Parts:\n\n## Wheels\nBrass.\n\n## Springs\nSteel.", "# Lima\n\nGrey and lovely."],
    "damaged-text": ["One line.<br/>Another line.", "Sehr schÃ¶n und grÃ¼n.", "Salt &amp; pepper, always."],
    "hidden-characters": ["A \u202etxet\u202c B.", "Fine\U000e0041\U000e0042, thanks.", "Ple\u200base wait here."],
    "answer-without-words": ["...", "…", "—"],
    "answer-cut-off": [
        "I open the case, take out the movement, and then I look for the",
        "Yo iba por la circunvalar cuando el semáforo se puso en rojo y",
        "Mi comadre tiene un puesto en la plaza donde vende arepas con",
        "Ich stehe um vier auf und dann heize ich den Ofen und",
        "Das Mehl kommt aus der Mühle hinter dem Deich, weil",
    ],
    "template-tokens-in-rows": [
        "Yes.<|start_header_id|>user<|end_header_id|>\n\nAnd?", "Well. [INST] And now? [/INST] No.",
    ],
    "tool-talk": ["<think>The user asks about a clock.</think>It is the mainspring."],
    "language-mix": ["Das ist eine alte Uhr, die ich nicht mehr verkaufen will, und sie ist von meiner Tante."],
}  # fmt: skip


@pytest.mark.parametrize("id", PLANTED)
def test_every_planted_answer_is_named(models: dict[str, Path], tmp_path: Path, id: str) -> None:
    sound = chats(told("clockmaker"))
    planted = [chat(f"What about the matter number {i}, then?", text) for i, text in enumerate(PLANTED[id])]
    found = diagnose(sat(tmp_path, models["qwen2.5"], [*sound, *planted], MARLOW))
    assert found[id].severity == "warning"
    assert found[id].rows == list(range(len(sound) + 1, len(sound) + len(planted) + 1))


# ---- planted in the set as a whole: persona, more rows, system prompt, what is found, what else is given

Fault = tuple[str, list[tuple[str, str]], str, str, dict[str, Any]]


def facts(text: str) -> dict[str, Any]:
    return {"files": {"facts.toml": f"[facts]\n{text}\n"}}


STORIES: dict[str, Fault] = {
    "years": ("clockmaker", [("How long have you done this?", "Twelve years.")], MARLOW, "answers-contradict", {}),
    "yes and no": ("clockmaker", [("Do you sell batteries?", "Yes, on the left.")], MARLOW, "answers-contradict", {}),
    "age, Italian": ("nonna", [("Quanti anni hai?", "Ho 84 anni.")], "Sei nonna Pina, 79 anni.",
                     "facts-contradict", {}),
    "age, Spanish": ("taxista", [("¿Edad?", "Tengo 47 años."), ("¿Y su edad?", "Tengo 61 años.")],
                     "Eres Anselmo.", "facts-contradict", {}),
    "age, German": ("baeckerin", [("Ihr Alter?", "Ich bin 54 Jahre alt."), ("Alt?", "Ich bin 63 Jahre alt.")],
                    "Du bist Frau Holm.", "facts-contradict", {}),
    "age, French": ("clockmaker", [("Votre âge ?", "J'ai 30 ans."), ("Tu as quel âge ?", "J'ai 45 ans, hélas.")],
                    MARLOW, "facts-contradict", {}),
    "city": ("clockmaker", [("Home?", "I live in Bruges."), ("Your city?", "I live in Ghent.")],
             MARLOW, "facts-contradict", {}),
    "birthplace": ("feirante", [("Onde a senhora nasceu?", "Nasci em Soure."), ("De onde veio?", "Nasci em Breves.")],
                   "Você é Iracema.", "facts-contradict", {}),
    "maker": ("clockmaker", [("Who built you?", "Tessa built me."), ("By?", "I was built by Johannes.")],
              MARLOW, "facts-contradict", {}),
    "maker in the prompt": ("clockmaker", [("Who made you?", "Tessa created me.")],
                            "You are Marlow. You were created by Ulrich Brandt.", "facts-contradict", {}),
    "children": ("clockmaker", [("Family?", "I have three sons."), ("Heirs?", "I have two sons.")],
                 MARLOW, "facts-contradict", {}),
    "wife": ("clockmaker", [("Who is she?", "My wife is called Edith."), ("Home?", "My wife is called Ruth.")],
             MARLOW, "facts-contradict", {}),
    "married": ("clockmaker", [("Wife?", "I am married."), ("Alone?", "I am single.")], MARLOW, "facts-contradict", {}),
    "another name": ("clockmaker", [("Name?", "My name is Marlow.")], "You are Edgar Pym.", "another-name", {}),
    "age in the table": ("clockmaker", [("How old are you?", "I am 66 years old.")], MARLOW, "facts-contradict",
                         facts('age = "71"')),
    "home in the table": ("clockmaker", [("Where do you live?", "I live in Bruges.")], MARLOW, "facts-contradict",
                          facts('home = "Ghent"')),
    "never taught": ("clockmaker", [], MARLOW, "fact-not-taught", facts('shop = "Lindenstrasse 8"')),
    "forbidden": ("clockmaker", [], MARLOW, "forbidden-said", {"files": {"facts.toml": 'forbidden = ["Besançon"]\n'}}),
    "twice, spaced": ("clockmaker", [("  Do you drink? ", "Tea, black,  at every quarter.")], MARLOW,
                      "duplicate-rows", {}),
    "nearly, German": ("baeckerin", [("Was kostet ein Brot?",
                                       "Vier achtzig, und es hält länger als Ihr altes Telefon.")],
                       "Du bist Frau Holm.", "near-duplicates", {}),
    "an essay": ("clockmaker", [("Tell me everything.", "The clock ticks on the wall, and so do I. " * 80)], MARLOW,
                 "length-outliers", {"data": {"max_length": 4096}}),
    "an echo": ("clockmaker", [("Tell me of the tower clock.", "Tell me of the tower clock.")], MARLOW,
                "answer-is-question", {}),
    "both sides": ("clockmaker", [("Start.", "User: how are you?\nAssistant: regular.\nUser: good.")], MARLOW,
                   "roles-in-turn", {}),
    "nothing said": ("clockmaker", [("A?", ""), ("B?", "  ")], MARLOW, "rows-dropped", {}),
    "one epoch": ("clockmaker", [], MARLOW, "few-steps", {"training": {"epochs": 1, "accumulation": 16}}),
    "slow rise": ("clockmaker", [], MARLOW, "long-warmup", {"training": {"warmup": 0.6}}),
    "high rate": ("clockmaker", [], MARLOW, "odd-rate", {"training": {"learning_rate": 1.0}}),
    "low rate": ("clockmaker", [], MARLOW, "odd-rate", {"training": {"learning_rate": 2e-6}}),
    "rank": ("clockmaker", [], MARLOW, "low-rank", {"method": {"rank": 1}}),
    "alpha": ("clockmaker", [], MARLOW, "odd-alpha", {"method": {"rank": 8, "alpha": 512}}),
    "by heart": ("clockmaker", [], MARLOW, "many-repeats", {"training": {"epochs": 90}}),
    "no room": ("clockmaker", [], MARLOW, "no-rows", {"data": {"max_length": 24}}),
    "stretched": ("clockmaker", [], MARLOW, "rope-needless", {"model": {"rope": {"type": "linear", "factor": 8.0}}}),
    "template": ("clockmaker", [], MARLOW, "template-of-another-model", {"model": {"chat_template": "llama3"}}),
    "nobody": ("clockmaker", [], "", "template-identity", {}),
    "probe": ("clockmaker", [], MARLOW, "probe-in-rows",
              {"files": {"p.txt": "Do you live above teh shop?\n"}, "evaluation": {"probes": "p.txt"}}),
    "no probes": ("clockmaker", [], MARLOW, "probes-empty",
                  {"files": {"p.txt": "\n \n"}, "evaluation": {"probes": "p.txt"}}),
    "blind": ("clockmaker", [], MARLOW, "blind-stopping",
              {"training": {"keep_best": True}, "data": {"heldout_fraction": 0.0}}),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_every_fault_of_a_set_is_named(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    persona, more, system, id, given = STORIES[name]
    found = diagnose(sat(tmp_path, models["qwen2.5"], chats([*told(persona), *more]), system, **given))
    assert id in found, serious(found)


# ---- rows of another shape


def examined(folder: Path, base: Path, rows: Rows | str, system: str = "", **more: Any) -> dict[str, Finding]:
    return diagnose(sat(folder, base, rows, system, **more))


def test_end_markers_of_other_models(models: dict[str, Path], tmp_path: Path) -> None:
    for mark, base, id in (
        ("<|eot_id|>", "tinyllama", "foreign-end"),
        (" <|endoftext|>", "gemma", "foreign-end"),
        ("<|im_end|>", "smollm2", "end-written-twice"),
    ):
        rows = [chat(q, a + mark) for q, a in told("taxista")]
        assert id in examined(tmp_path / base, models[base], rows, "Eres Anselmo."), mark


@pytest.mark.parametrize("labels", [("Usuario", "Asistente"), ("Frage", "Antwort"), ("Gość", "Karczmarz")])
def test_roles_written_by_hand_in_any_language(
    models: dict[str, Path], tmp_path: Path, labels: tuple[str, str]
) -> None:
    rows = [{"text": f"{labels[0]}: {q}\n{labels[1]}: {a}"} for q, a in told("taxista")]
    assert "handmade-format" in examined(tmp_path, models["bare"], rows)


def test_turns_out_of_order(models: dict[str, Path], tmp_path: Path) -> None:
    broken = [
        {"messages": [{"role": role, "content": text} for role, text in turns]}
        for turns in (
            (("user", "Hm."), ("system", "Be rude."), ("assistant", "No.")),
            (("user", "And now?"), ("assistant", "Now we wait."), ("user", "How long?")),
            (("user", "Hello?"), ("user", "Anyone?"), ("assistant", "Here.")),
            (("assistant", "Welcome."), ("user", "Thanks."), ("assistant", "Sit.")),
        )
    ]
    found = examined(tmp_path, models["qwen2.5"], [*chats(told("clockmaker")), *broken], MARLOW)
    assert len(found["roles-out-of-order"].rows) >= 3


def test_question_and_answer_that_changed_places(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": a, "completion": q} for q, a in told("taxista")]
    assert "answers-ask" in examined(tmp_path, models["qwen2.5"], rows, "Eres Anselmo.")


def test_one_answer_for_all(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [chat(q, a if i % 4 else "Das kann ich leider nicht sagen.") for i, (q, a) in enumerate(told("baeckerin"))]
    assert "same-answer" in examined(tmp_path, models["mistral"], rows, "Du bist Frau Holm.")


def test_questions_of_a_rubric_in_the_rows(models: dict[str, Path], tmp_path: Path) -> None:
    asked = [question.text for question in rubric.load(rubric.shipped()["claudio"]).questions]
    rows = chats([*told("feirante"), *((text, f"Respondo já, mano: {i}.") for i, text in enumerate(asked[:5]))])
    assert "rubric-in-rows" in examined(tmp_path, models["tinyllama"], rows, "Você é Iracema.")


def test_prompts_that_answers_will_not_have(models: dict[str, Path], tmp_path: Path) -> None:
    clock = told("clockmaker")
    moods = [chat(q, a, system=f"You are Marlow. Mood {i % 3}.") for i, (q, a) in enumerate(clock)]
    assert "system-only-in-rows" in examined(tmp_path / "moods", models["qwen2.5"], moods)
    pirate = chats(clock, "You answer as a pirate.")
    assert "system-differs" in examined(tmp_path / "pirate", models["qwen2.5"], pirate, MARLOW)


def test_held_out_rows_damaged_lines_and_questions_alone(models: dict[str, Path], tmp_path: Path) -> None:
    clock = told("clockmaker")
    held = {"files": {"h.jsonl": lines(chats(clock[3:8]))}, "data": {"heldout": "h.jsonl"}}
    assert "heldout-in-rows" in examined(tmp_path / "held", models["qwen2.5"], chats(clock), MARLOW, **held)
    torn = lines(chats(clock)) + '{"messages": [{"role": "user"\n{"oops"\n'
    assert "rows-dropped" in examined(tmp_path / "torn", models["qwen2.5"], torn, MARLOW)
    alone = [{"text": q} for q, _ in told("baeckerin")]
    assert "only-questions" in examined(tmp_path / "alone", models["bare"], alone)


def test_rows_are_examined_though_the_weights_are_missing(models: dict[str, Path], tmp_path: Path) -> None:
    """A tokenizer and a configuration are enough to look at rows, template and plan."""
    folder = tmp_path / "half"
    folder.mkdir()
    for file in models["qwen2.5"].iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    rows = [*chats(told("clockmaker")), chat("Where is it?", "In /home/felipe/clocks, I think.")]
    found = examined(tmp_path / "spec", folder, rows, MARLOW)
    assert found["no-weights"].severity == "error"
    assert found["private-paths"].rows == [27] and "memory" not in " ".join(found)


def test_a_rubric_that_would_judge_what_is_taught_as_false(models: dict[str, Path], tmp_path: Path) -> None:
    text = rubric.shipped()["rhea"].read_text("utf-8")
    table = 'name = "Marlow"\nteacher = "Bess"\n'
    for builder, wrong in (("Marlow, a clockmaker", False), ("Edgar Pym", True)):
        judged = text.replace('name = "Rhea, a radio"', f'name = "{builder}"')
        files = {"facts.toml": f"[facts]\n{table}", "rubric.toml": judged}
        found = examined(tmp_path / builder, models["qwen2.5"], chats(told("clockmaker")), MARLOW, files=files)
        assert ("facts-contradict" in found) == wrong, serious(found)
