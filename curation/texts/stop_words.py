"""Stop words by language: words that any text of some length holds.

English's are those of Gopher (Rae et al. 2021, appendix A1.1); the others are ours, articles, conjunctions and forms of
"to be" and "to have" in the same number or more. Languages are named as CLD2 does (ISO 639-1).
"""

from __future__ import annotations

STOP_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the be to of and that have with",
        "zh": "的 是 在 了 不 有 和 人 这 我 为 也 就 一",
        "zh-Hant": "的 是 在 了 不 有 和 人 這 我 為 也 就 一",
        "ja": "の に は を た が で て と し れ さ な",
        "ko": "그 이 수 것 있는 있다 및 등 한 하는 대한 그리고 더 위해",
        "de": "der die das und ist nicht mit von zu den ein eine sich auf",
        "fr": "le la les de des et est un une que dans pour pas en",
        "es": "el la los las de que y en un una es por con no",
        "it": "il la di che e un una per non è con in del della",
        "pt": "o a os as de que e em um uma é por com não",
        "nl": "de het een en van is dat niet met op te zijn in voor",
        "sv": "och att det som en ett är på för med av inte den till",
        "da": "og at det som en et er på for med af ikke den til",
        "no": "og at det som en et er på for med av ikke den til",
        "fi": "ja on ei se että oli hän mutta kuin joka ovat myös tai olla",
        "pl": "i w na nie z się do to jest że o jak za od",
        "cs": "a se na je že v z do to s i pro by ale",
        "sk": "a sa na je že v z do to s aj pre by ale",
        "hu": "a az és hogy nem is egy meg van de csak ez volt mint",
        "ro": "și de la în cu nu un o pe care este din pentru că",
        "ru": "и в не на что с как по это а из за к он",
        "uk": "і в не на що з як та це до за у він для",
        "bg": "и в не на че с как по това а от за да се",
        "el": "και το να του η της με που την για είναι ο οι από",
        "tr": "ve bir bu için da de ile çok olarak daha olan gibi ne var",
        "ar": "في من على أن إلى عن هذا التي مع لا ما كان هو و",
        "fa": "و در به از که این را با است برای آن یک تا هم",
        "he": "של את על לא הוא זה עם כי גם או היא אני יש כל",
        "hi": "के में की है और से का को पर यह ने भी नहीं एक",
        "id": "yang dan di ini itu dengan untuk tidak dari pada adalah ke dalam akan",
        "ms": "yang dan di ini itu dengan untuk tidak dari pada adalah ke dalam akan",
        "vi": "và của là có được trong cho không một các với này người đã",
    }.items()
}
