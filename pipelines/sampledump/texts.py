"""The text files: plain prose, one with strings that look like structure tokens, one in several scripts."""

from __future__ import annotations

from reelmill.pipelines.sampledump.facts import ItemFact, SampleFact

RIVER = """\
The river above the mill

A river does most of its work at night, when nobody looks. In the hills it gathers from a hundred small places: a wet
meadow, a ditch beside a road, a spring under a stone that the sheep know about. None of these would carry a leaf very
far. Together, an hour lower down, they carry branches, and a day lower down they carry the branches of a whole wood,
once a year, when the snow goes.

The people who built mills understood this and were patient. They did not look for the largest water but for the
steadiest. A stream that is loud in March and silent in August turns a wheel for half a year and breaks it in the other
half. So they walked up and down the valley, asked the old people how high the water had stood, looked at the grass
caught in the bushes, and then built their dam in a place that seemed dull to everyone else.

Behind the dam lay the pond, and the pond was the store. At night the gate was shut and the water rose by the width of
a hand. In the morning the miller opened the gate by three turns of a wooden screw, the water ran along a channel of
planks, fell into the buckets of the wheel, and the whole house began to shake gently, like a cart on a good road. Flour
lay on every beam. The cat was white in the morning and grey again by noon, when she had been in the river grass.

A wheel is a simple thing. It takes what comes, bucket after bucket, and it does not ask whether the water has fallen
as rain or as snow. What it cannot use runs over the edge and on to the next mill, where another wheel waits. Nothing is
lost by this. A good river can be used twenty times before it reaches the sea, and it arrives there no smaller.

When the last mill stopped, the pond filled with reeds and the dam grew willows. The river found its old bed within two
winters, as if it had kept a map. Only the stones remember: there are two of them in the grass by the bridge, flat and
round, each with a hole in the middle, and children sit on them to take off their shoes.
"""

RULES = """\
Notes of a careful miller, with some strings that are not what they seem

1. Look at the grain before you pour it. A stone in the sack costs more than the sack. Whoever brings wet grain should
be told so in a friendly way, and shown the damp patch, because the same person will come again next week.

2. Write down what you refuse and why. A list that holds only what was kept looks tidy and teaches nothing. When the
flour is bad in March, the list of refusals in October is what you will want to read.

3. Labels are words, too. Somebody once chalked <|image start|> on a sack, and somebody else wrote <|image token|> and
<|image end|> below it, for a joke, and the apprentice stood before the sack for an hour and waited for a picture. A
chalk mark is chalk. The same is true of <|endoftext|>, <|extra_200|>, <|extra_201|>, <|extra_203|>, <|extra_204|>, of
<|visual token 000123|> and of <|visual token 1|>, of [BOS], [EOS], <s>, </s>, <pad> and <|im_start|>. They are
letters in a text, and a mill that treats them as orders will grind its own gears.

4. Numbers are the same. If a sack says 64*64, weigh it. If it says 8*8 4fps 2s, weigh it as well.

5. Never stop the wheel in the middle of a sack. If you have to stop it, because the beam cracks or the river rises,
mark the sack as unfinished, and begin that sack again from its first grain. Half a sack and half a sack make a whole
sack only for those who did not see the floor.

6. Quotation marks, backslashes and tabs belong to the grain that people bring: "flour", 'bran', C:\\mill\\new, 50 %,
a\tb, {"sack": 7, "kept": true}, <b>fine</b>, '; DROP TABLE sacks; --. Grind them like everything else.

7. At the end of the day count the sacks that came, the sacks that were ground and the sacks that were sent back. The
first number must be the sum of the other two. If it is not, do not go home.
"""

MANY_SCRIPTS = """\
Water wheels in other words

In English a mill grinds; in German the Mühle mahlt; en français, le moulin à eau moud le blé, et le bief amène l'eau
jusqu'à la roue. En español se dice que «agua pasada no mueve molino». Ve vodním mlýně žije prý vodník, který rád kouří
dýmku. Vattnet går sin väg, även när kvarnen står stilla. Değirmenin suyu nereden geliyor?

水車は川の水で回ります。朝になると、粉屋は水門を開け、羽根板に水が落ち、石臼がゆっくり動き始めます。春の雪どけ水は強く、夏の川は
静かです。小さな村では、水車の音が時計の代わりでした。

水磨坊建在河边。磨坊主每天清晨打开闸门，河水推动木轮，木轮带动石磨，麦子变成面粉。水流过去了，磨坊还在，下游又有另一座磨坊。

물레방아는 강물의 힘으로 돌아갑니다. 물은 쉬지 않고 흐르고, 방아는 곡식을 찧습니다.

Водяная мельница стоит у плотины. Колесо шумит, жернова вертятся, мука сыплется в мешок. Ο νερόμυλος γυρίζει όσο
κατεβαίνει το ποτάμι. طاحونة الماء تدور ما دام النهر يجري. גלגל המים מסתובב כל עוד הנחל זורם. नदी का पानी पनचक्की को
घुमाता है और गेहूँ आटा बन जाता है।

Signs that people paint on the door: 🌊 for the river, 🌾 for the wheat, ⚙️ for the wheel, 🍞 for the bread,
🐈‍⬛ for the cat that keeps the mice away, and 👩🏽‍🌾 for the farmer who comes on Tuesdays. On old maps a mill is
drawn as a small star ✱ or as a toothed ring ☼, and a dam as a double line ═══.

Some letters can be written in two ways that look alike: é and é, Å and Å, ﬁ and fi. A careful scribe keeps what was
brought. There are also letters that are as wide as two, ｗａｔｅｒ, and words that hold a space which must not
break: 5 kg, 10 °C, 3 ½ turns of the screw.
"""

PONDS = """\
A pond above a mill is never quite still. In spring it is brown and high, and the boards of the gate hum when a hand is
laid on them. In summer dragonflies hang over it, and the water stands so low that the posts of an older dam come out of
the mud, black and soft as bread. Children are told that a bell lies at the bottom. Nobody has seen it, and everyone has
heard it, in the evening, when the wind comes from the village.

In autumn the leaves gather before the grating, and the miller rakes them out twice a day, because a wheel choked
with leaves turns as slowly as one without water. In winter he breaks the ice along the gate with an iron bar. Then he
looks at the sky, writes the height of the water into a book, and goes in to the stove."""

LANGUAGES: dict[str, str] = {
    "de": """\
Die Mühle am Fluss dreht sich seit dem frühen Frühling, und die Bauern bringen jede Woche ihr Korn dorthin. Wer zu spät
kommt, wartet auf der Bank vor der Tür und hört dem Wasser zu. Der Müller sagt, dass man an seinem Klang erkennt, ob es
am nächsten Tag regnen wird. Nicht alle glauben ihm das, aber auch die anderen hören hin.

Am Abend schließt er das Wehr mit drei Drehungen einer hölzernen Schraube. Dann ist es so still im Tal, dass man
die Katze auf der Treppe hört. Das Mehl liegt auf allen Balken, und bei Licht sieht es aus wie der erste Schnee.""",
    "es": """\
El molino del río gira desde la primavera, y los campesinos llevan allí su grano todas las semanas. El que llega tarde
espera en el banco de la puerta y escucha el agua. El molinero dice que por su sonido se sabe si va a llover al día
siguiente. No todos le creen, pero también los demás escuchan.

Por la noche cierra la compuerta con tres vueltas de un tornillo de madera. Entonces el valle queda tan callado que se
oye al gato en la escalera. La harina cubre todas las vigas, y a la luz de la lámpara parece la primera nieve.""",
    "ru": """\
Мельница у реки работает с ранней весны, и крестьяне каждую неделю привозят сюда зерно. Кто приезжает поздно, тот ждёт
на скамейке у двери и слушает воду. Мельник говорит, что по её звуку можно узнать, будет ли завтра дождь. Не все ему
верят, но слушают и остальные.

Вечером он закрывает затвор тремя оборотами деревянного винта. Тогда в долине становится так тихо, что слышно кошку на
лестнице. Мука лежит на всех балках, и в свете лампы она похожа на первый снег.""",
    "zh": """\
河边的磨坊从早春开始就一直在转动，农民们每个星期都把谷物送到这里来。来晚的人坐在门前的长凳上，听着水声等候。磨坊主人说，从水的声音
里可以听出第二天会不会下雨。不是所有的人都相信他，可是不相信的人也在听。

到了晚上，他把木头的螺杆转三圈，关上闸门。这时山谷里安静极了，连楼梯上的猫走路都听得见。所有的房梁上都落着面粉，在灯光下看起来就像
第一场雪。春天的水又急又浑，夏天的水又浅又清，秋天的水面上漂着树叶，冬天的水在冰下面流。磨坊主人把每一天的水位都写在一个本子里。""",
}
"""Texts of one story, by language."""

TEXTS: dict[str, str] = {
    "texts/river.txt": RIVER,
    "texts/notes.txt": RULES,
    "texts/水車.txt": MANY_SCRIPTS,
}


def fact(uri: str) -> ItemFact:
    """Texts are all kept."""
    return ItemFact(uri, "text", samples=(SampleFact(0.0, 0.0),))
