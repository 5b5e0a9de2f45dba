"""Texts of many kinds, written for this project: they show int8 how large a model's inputs get."""

from __future__ import annotations

from collections.abc import Sequence

TEXTS = (
    "The central bank left its main interest rate unchanged at 4.25 % on Thursday, saying that "
    "inflation had slowed more than expected. The currency fell 0.6 pct against the dollar; bond "
    "prices rose. Analysts at three houses had forecast a cut of a quarter of a point in June.",
    "NORTHERN GRAIN CO SETS QUARTERLY DIVIDEND\n    Qtly div 18 cts vs 16 cts prior\n    Pay "
    "April 30\n    Record March 27\n Reuter &#3;",
    "HALLORAN FOODS INC <HLF> 4TH QTR NET\n  Shr 42 cts vs 37 cts\n  Net 6,101,000 vs 5,388,000\n "
    " Revs 88.4 mln vs 79.9 mln\n  Avg shrs 14.5 mln vs 14.6 mln\n  NOTE: 1986 net includes gain "
    "of 310,000 dlrs, or two cts a share, from sale of a warehouse.",
    "Exporters sold 120,000 tonnes of soft wheat to North Africa for delivery in May and June at "
    "around 91 dlrs a tonne, traders said. Another 30,000 tonnes of barley went to the Gulf.",
    "The company said it has agreed in principle to buy the remaining 49 pct of its subsidiary for "
    "about 1.2 billion dlrs in cash and stock, subject to approval by shareholders and regulators. "
    "A spokesman declined to comment on reports that a rival bid of 27 dlrs a share was likely.",
    "Crude oil futures slipped below 70 dollars a barrel after ministers failed to agree on output "
    "quotas. One delegate called the talks 'difficult, but not hopeless'.",
    "My grandmother's kitchen smelled of cinnamon and floor wax. On Sundays she let us stir the "
    "batter, and whoever found the almond got to choose the record.",
    "hey are you coming tonight?? bring snacks pls :) 8pm at tom's",
    "WINNER!! You have been selected to receive a £900 prize reward! To claim call 09061701461. "
    "Claim code KL341. Valid 12 hours only.",
    "What is the capital of the country with the longest coastline?",
    "Who invented the telescope ?",
    "How many bones are there in an adult's hand?",
    "How do I convert a string to a date in Python without raising an exception?",
    "an utterly charming, beautifully acted little film that never asks for your tears",
    "the plot is a mess , the jokes are worse , and at two hours it feels like a prison sentence .",
    "I bought this kettle in March and it started leaking in May. The replacement leaked too. Two "
    "stars because the customer service was polite.",
    "def read_lines(path):\n    '''Yield stripped lines.'''\n    with open(path) as file:\n        "
    "for line in file:\n            yield line.rstrip('\\n')",
    "Return a new array with the elements of the sequence in sorted order.\n\nIf key is given, it "
    "is called once for each element. Raises ValueError if the axis is out of bounds.",
    "SELECT name, COUNT(*) FROM orders WHERE total > 100 GROUP BY name ORDER BY 2 DESC LIMIT 10;",
    "Error 0x80070057: the parameter is incorrect. See https://example.org/help?id=57&lang=en "
    "or write to support@example.org.",
    "Traceback (most recent call last): File \"main.py\", line 12, in <module> KeyError: 'user_id'",
    "We propose a simple method for learning sentence representations from unlabelled text. On "
    "seven benchmarks it improves on the previous state of the art by 2.1 points on average while "
    "using a tenth of the parameters. Code and models are available.",
    "The mitochondrion produces most of the cell's supply of adenosine triphosphate (ATP), which "
    "is used as a source of chemical energy. It was first described in the nineteenth century.",
    "Patients (n = 312) were randomised to 20 mg daily or placebo; after 24 weeks the hazard ratio "
    "for the primary endpoint was 0.71 (95 % CI 0.55-0.92, p = 0.009). Nausea was more common.",
    "An experimental study of a wing in a propeller slipstream was made in order to determine the "
    "spanwise distribution of the lift increase at different angles of attack and Mach numbers.",
    "In the event of a breach of clause 7(b), the Licensee shall, within thirty (30) days of "
    "written notice, cease all use of the Materials and return or destroy every copy thereof.",
    "The treaty of 1648 ended a war that had lasted thirty years and killed perhaps eight million "
    "people. Its principles of sovereignty shaped the law of nations for three centuries.",
    "Founded in 1209, the university is the second-oldest in the English-speaking world. Its 31 "
    "colleges are self-governing institutions, each with its own members, property and kitchens.",
    "United beat Rovers 3-1 at home on Saturday, with two goals in the last five minutes. The "
    "striker, who had missed six games with a knee injury, came off the bench at half-time.",
    "Preheat the oven to 200 C. Rub the butter into the flour, add 2 tbsp of sugar and just enough "
    "milk to make a soft dough. Bake for 12-15 minutes until golden; serve warm with jam.",
    "To be, or not to be: that is the question: whether 'tis nobler in the mind to suffer the "
    "slings and arrows of outrageous fortune, or to take arms against a sea of troubles.",
    '"I have seen too much not to know that the impression of a woman may be more valuable than '
    'the conclusion of an analytical reasoner," said he, lighting his pipe. "Let us go down."',
    "The road goes up past the chapel, then drops to the river. Snow lay in the ditches. Nobody "
    "had come this way since the bridge went, and the dog would not cross.",
    "Two men in orange vests are repairing a railway track while a child watches from a fence.",
    "A woman is playing the guitar.",
    "A dog runs through the grass with a yellow ball in its mouth.",
    "cat",
    "old automobile",
    "x",
    "?",
    "Yes.",
    "1987",
    "3.14159 2.71828 1.41421 0.57721 1.61803 42 1,000,000 7/8 50% 10^6 -273.15",
    "Thank you for your letter of 3 March. I regret that we are unable to offer you the position, "
    "but we will keep your application on file. Yours sincerely, M. Okafor (Mrs), Personnel.",
    "Agenda: 1. Minutes of the last meeting 2. Budget 3. Parking 4. Any other business",
    "Breaking: 6.8 magnitude earthquake off the coast, tsunami warning in effect #earthquake "
    "@weatherdesk RT if you are safe",
    "lol that's soooo not what i meant 😂😂 but ok",
    "Ein Zug fährt durch die verschneiten Berge, und niemand weiß, wann er ankommt.",
    "Le petit marché se tient chaque samedi matin sur la place de l'église.",
    "El perro duerme bajo la mesa mientras la familia cena en el jardín.",
    "今天天气很好。 Сегодня хорошая погода. 今日はいい天気です。",
    "Subject: re: re: invoice 20391\n\n> did you get my last mail?\n\nYes, sorry, it went to the "
    "spam folder. Payment will go out on Friday. -- Jo",
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. The "
    "quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.",
    "buy buy buy buy buy sell sell sell sell sell hold hold hold ... !!! ??? --- *** (((  )))",
    "Name | Age | City\n-----|-----|-----\nAnna | 34 | Oslo\nBen | 29 | Lagos\nChen | 41 | Xi'an",
    "JAPAN TO SELL YEN BONDS IN LONDON - FINANCE MINISTRY",
    "Unemployment fell to 5.9 pct of the labour force in February from 6.1 pct in January, the "
    "Labour Ministry said. The number out of work dropped by 41,000 to 1,702,000, seasonally "
    "adjusted. Money supply M-1 rose 2.1 billion dlrs in the week to a preliminary 736.7 billion.",
    "Copper and zinc prices on the London Metal Exchange recovered from the morning's lows on "
    "covering by dealers. Gold was fixed at 404.15 dlrs an ounce. Coffee, cocoa, sugar and natural "
    "rubber were little changed; cotton and palm oil eased on forecasts of rain in the south.",
    "The shipyard's 2,300 workers voted to strike from midnight over pay and planned job losses, a "
    "union official said. Tankers and container vessels waiting in the harbour will be diverted.",
)


def with_long_ones(texts: Sequence[str], n_together: int = 8) -> list[str]:
    """The texts, and neighbours joined: positions that no short text reaches have ranges too."""
    starts = range(0, len(texts), max(1, n_together // 2))
    return [*texts, *(" ".join(texts[i : i + n_together]) for i in starts)]
