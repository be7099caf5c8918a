"""Toyworld: a small made-up world that writes endless English-like text and knows the truth behind each sentence.

Its people, towns, trades and animals have *fixed facts*, the same in every document, which a model can only know
from pre-training; its *stories* must be followed from sentence to sentence. Because the world knows what is true, it
also poses tasks of exactly the shapes of GLUE's nine, SQuAD and IMDb. It is a place to learn the method in, not
evidence about the paper. Document ``i`` and row ``i`` are pure functions of ``(seed, i)``.
"""
from __future__ import annotations

import functools
import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

# ---------------------------------------------------------------------------------------------------- word lists
# In a list the common words stand first. In the tasks, a third of the words is kept from training (see Writer.pick).

def _table(text: str, sep: str = ";") -> list[list[str]]:
    """Cells of a small table: rows end with ``sep``, cells with a comma."""
    return [[cell.strip() for cell in row.split(",")] for row in text.replace("\n", " ").split(sep) if row.strip()]


TRADES = _table("""
baker,bread maker,oven,bakery,loaves; smith,ironworker,anvil,forge,horseshoes; teacher,instructor,blackboard,school,
lessons; doctor,physician,stethoscope,hospital,medicines; farmer,grower,plough,farmyard,crops; tailor,dressmaker,needle,
sewing room,suits; carpenter,woodworker,saw,woodshop,shelves; cook,chef,ladle,kitchen,stews; fisher,angler,net,harbour,
dried fish; painter,artist,brush,studio,pictures; miller,grain grinder,millstone,mill,flour; writer,author,pen,study,
novels; sailor,seafarer,compass,ship,maps; judge,magistrate,gavel,court,rulings; potter,clay worker,wheel,pottery,jugs;
weaver,cloth maker,loom,weaving house,carpets; shoemaker,cobbler,awl,shoe shop,boots; butcher,meat seller,cleaver,
butchery,sausages; barber,hairdresser,razor,barbershop,wigs; gardener,plant keeper,spade,garden,flower beds; miner,
digger,pickaxe,mine,tunnels; musician,player,violin,concert hall,melodies; clerk,bookkeeper,ledger,office,reports;
lawyer,attorney,law book,chamber,contracts; nurse,caregiver,thermometer,clinic,bandages; printer,typesetter,
printing press,print house,newspapers; jeweller,gem cutter,magnifier,jewel shop,rings; mason,bricklayer,trowel,
building site,walls; brewer,beer maker,barrel,brewery,ale; beekeeper,honey farmer,smoker,apiary,honey; shepherd,
sheep herder,crook,pasture,wool; hunter,trapper,bow,forest,traps; librarian,archivist,catalogue,library,reading lists;
astronomer,stargazer,telescope,observatory,star charts; chemist,druggist,flask,laboratory,potions; clockmaker,
watchmaker,tweezer,clock shop,clocks; glassblower,glass maker,blowpipe,glassworks,vases; candlemaker,wax worker,mould,
candle shop,candles; sculptor,carver,chisel,marble yard,statues; banker,moneylender,safe,bank,loans; florist,
flower seller,shear,flower shop,bouquets; dentist,tooth doctor,drill,surgery,fillings; roofer,thatcher,ladder,attic,
roofs; tanner,leather maker,scraper,tannery,saddles; actor,performer,mask,theatre,plays""")

ANIMALS = _table("""
dog,dogs,mammal,meat,kennels,bark,puppy; cat,cats,mammal,mice,barns,meow,kitten; horse,horses,mammal,hay,stables,neigh,
foal; cow,cows,mammal,grass,meadows,moo,calf; sheep,sheep,mammal,clover,pastures,bleat,lamb; hen,hens,bird,corn,coops,
cluck,chick; duck,ducks,bird,water weed,ponds,quack,duckling; goat,goats,mammal,thistles,hills,bray,kid; pig,pigs,
mammal,scraps,sties,grunt,piglet; goose,geese,bird,barley,rivers,honk,gosling; owl,owls,bird,voles,towers,hoot,owlet;
wolf,wolves,mammal,deer,forests,howl,cub; bear,bears,mammal,berries,caves,growl,bear cub; fox,foxes,mammal,rabbits,dens,
yelp,fox cub; eagle,eagles,bird,snakes,cliffs,scream,eaglet; frog,frogs,amphibian,flies,marshes,croak,tadpole; bee,bees,
insect,nectar,hives,buzz,grub; snake,snakes,reptile,eggs,deserts,hiss,hatchling; lion,lions,mammal,zebras,plains,roar,
lion cub; rabbit,rabbits,mammal,carrots,burrows,squeak,bunny; trout,trout,fish,larvae,streams,splash,fry; crow,crows,
bird,carrion,fields,caw,fledgling; cricket,crickets,insect,leaves,lawns,chirp,nymph; swan,swans,bird,pond weed,lakes,
trumpet,cygnet; donkey,donkeys,mammal,straw,sheds,heehaw,colt; parrot,parrots,bird,seeds,jungles,squawk,nestling; seal,
seals,mammal,herring,shores,yap,pup; mosquito,mosquitoes,insect,blood,swamps,whine,wriggler; lizard,lizards,reptile,
spiders,rocks,click,lizardling; whale,whales,mammal,krill,oceans,sing,whale calf; pigeon,pigeons,bird,crumbs,roofs,coo,
squab; moth,moths,insect,wool,closets,flutter,caterpillar; salmon,salmon,fish,shrimps,fjords,leap,smolt; turtle,turtles,
reptile,jellyfish,reefs,snap,turtle hatchling; elephant,elephants,mammal,bark,savannas,rumble,elephant calf""")

OBJECTS = {sort.strip().replace("_", " "): [pair.split("/") for pair in pairs.split()] for sort, pairs in (
    row.split(":") for row in """
tool: hammer/iron saw/steel rake/wood shovel/iron axe/steel ladder/wood broom/straw file/steel lever/oak clamp/iron;
vessel: cup/clay bottle/glass bowl/wood jar/clay kettle/copper bucket/tin basket/willow vase/glass jug/stone flask/tin;
garment: coat/wool hat/felt shirt/cotton scarf/silk glove/leather belt/leather cloak/wool dress/linen sock/wool
 apron/linen;
instrument: drum/leather flute/bone harp/maple bell/bronze violin/spruce horn/brass lute/pine whistle/reed gong/bronze;
toy: doll/cloth kite/paper ball/rubber puppet/wood marble/glass hoop/cane mask/paper puzzle/cork;
jewel: ring/gold necklace/silver brooch/amber crown/gold bracelet/coral earring/pearl medal/bronze;
vehicle: cart/oak boat/pine wagon/oak sledge/birch bicycle/steel canoe/birch raft/bamboo;
piece_of_furniture: chair/beech table/walnut bed/pine bench/stone shelf/teak desk/walnut stool/beech mirror/glass
  cradle/elm""".split(";"))}

FOODS = _table("""
fruits,sweet,apples,pears,cherries,plums,grapes,figs,melons,peaches,dates,apricots; vegetables,earthy,onions,cabbage,
carrots,potatoes,turnips,spinach,beets,leeks,parsnips; sour foods,sour,lemons,vinegar,pickles,limes,gooseberries,
sorrel,sauerkraut; desserts,sugary,cake,jam,puddings,pancakes,toffee,waffles,custard,marzipan; salty foods,salty,ham,
olives,bacon,cheese,anchovies,crackers,caviar; bitter foods,bitter,coffee,cocoa,chicory,walnuts,radicchio; spicy foods,
hot,ginger,mustard,peppers,radishes,horseradish,curry""")

# Each row: a property and its opposite, each with its synonyms.
THING_PAIRS = [[side.split() for side in row.split(":")] for row in """
big large huge sizeable:small little tiny compact;old ancient aged:new modern recent;heavy weighty massive:light
weightless feathery;clean spotless washed:dirty filthy grimy;cheap inexpensive affordable:expensive costly pricey;
hard solid rigid:soft spongy squashy;strong sturdy robust:fragile brittle frail;wet soaked damp:dry parched arid;
empty hollow vacant:full filled packed;bright shiny gleaming:dull dim faded;rare scarce uncommon:common ordinary usual;
hot scalding boiling:cold icy freezing;sharp pointed keen:blunt rounded dulled;broken damaged cracked:intact whole
undamaged;thick chunky bulky:thin slender slim;rough bumpy coarse:smooth even sleek;long lengthy extended:short brief
stubby;genuine real authentic:fake false forged""".split(";")]
PERSON_PAIRS = [[side.split() for side in row.split(":")] for row in """
happy glad cheerful joyful:sad unhappy gloomy sorrowful;rich wealthy prosperous:poor penniless needy;brave bold
courageous:afraid scared fearful;strong mighty powerful:weak feeble puny;tired weary exhausted:rested fresh lively;
angry furious enraged:calm peaceful placid;clever smart bright:stupid foolish dim;sick ill unwell:healthy well fit;
kind friendly gentle:cruel mean unkind;fast quick swift:slow sluggish unhurried;busy occupied engaged:idle unoccupied
inactive;famous renowned celebrated:unknown obscure nameless;honest truthful sincere:deceitful lying dishonest;
hungry starving famished:full fed sated;noisy loud rowdy:quiet silent hushed;lazy indolent slack:diligent
hardworking industrious;careful cautious wary:careless reckless rash;generous giving charitable:stingy greedy
miserly""".split(";")]
ACTIONS = [row.split() for row in """
repaired mended fixed;cleaned washed scrubbed;found discovered located;lost mislaid misplaced;made built crafted;
carried hauled lugged;destroyed ruined wrecked;admired praised applauded;opened unlocked unsealed;closed shut
sealed;lifted raised hoisted;pulled dragged tugged;pushed shoved nudged;painted coloured decorated;examined inspected
studied;buried concealed stashed;collected gathered assembled;burned torched scorched;polished buffed shined;
delivered shipped conveyed;wanted desired craved;needed required demanded;sketched traced outlined;described depicted
portrayed;copied imitated duplicated;touched felt handled;covered wrapped veiled;bought purchased acquired;protected
guarded defended;guided steered directed;emptied drained unloaded""".split(";")]
VERBS = _table("""
sing,sang,sung,singing; eat,ate,eaten,eating; sleep,slept,slept,sleeping; run,ran,run,running;
swim,swam,swum,swimming; work,worked,worked,working; write,wrote,written,writing; fall,fell,fallen,falling;
sit,sat,sat,sitting; drink,drank, drunk,drinking; speak,spoke,spoken,speaking; laugh,laughed,laughed,laughing;
stand,stood,stood,standing; draw,drew, drawn,drawing; drive,drove,driven,driving; dance,danced,danced,dancing;
dream,dreamed,dreamed,dreaming; ride,rode,ridden, riding; wait,waited,waited,waiting; fight,fought,fought,fighting;
hide,hid,hidden,hiding; rise,rose,risen,rising; dig,dug, dug,digging; weep,wept,wept,weeping;
wander,wandered,wandered,wandering; steal,stole,stolen,stealing; shake,shook, shaken,shaking; grow,grew,grown,growing;
begin,began,begun,beginning; leave,left,left,leaving; wake,woke,woken,waking; kneel,knelt,knelt,kneeling;
whisper,whispered,whispered,whispering; freeze,froze,frozen,freezing""")
GOOD = """
good wonderful great lovely excellent beautiful fine brilliant delightful charming superb perfect amazing funny
pleasant clever marvellous moving splendid fascinating gripping graceful elegant touching magnificent fantastic
refreshing witty enjoyable stunning terrific satisfying impressive thrilling enchanting glorious inspired memorable
exquisite captivating outstanding heartfelt lively vivid dazzling exceptional tasteful engaging sublime masterful
remarkable rewarding absorbing flawless polished hilarious radiant riveting stirring imaginative irresistible
phenomenal poignant sparkling spellbinding admirable stellar uplifting compelling endearing luminous breathtaking
sumptuous ravishing exhilarating first-rate top-notch astute invigorating spirited dependable""".split()
BAD = """
bad terrible boring awful poor dull ugly horrible weak dreadful stupid tedious silly disappointing ridiculous
unpleasant tiresome messy annoying clumsy pathetic lifeless predictable miserable disgusting shallow empty depressing
ghastly forgettable lame appalling atrocious dismal bland irritating sloppy lousy abysmal pointless mediocre painful
confused hideous laughable repulsive shoddy feeble unbearable vulgar inept dreary tacky wretched insipid grating
monotonous hollow incoherent obnoxious stale woeful abominable contrived drab infuriating lacklustre nauseating
soulless turgid unwatchable vapid amateurish banal botched trite half-baked second-rate plodding revolting soggy
insufferable""".split()
ASPECTS = _table("""
film,acting,plot,music,ending,dialogue,opening scene,camera work,cast; book,style,story,hero,first chapter,cover,
final page,language,translation; meal,soup,service,wine,sauce,dessert,roast,salad,bill; inn,room,breakfast,bed,
view,staff,garden,bath,location; concert,singer,orchestra,hall,encore,sound,programme,drummer,lighting; play,
stage,costume,script,lead role,second act,scenery,director,chorus; game,board,design,rulebook,artwork,pace,idea,
puzzle,finale; tour,guide,route,bus,museum,castle,price,boat ride,souvenir shop""")
PLACES = [place.strip() for place in """
at the market; in the square; by the bridge; near the church; in the garden; behind the barn; at the harbour; on the
hill; in the cellar; at the station; by the well; in the attic; under the oak; at the fair; in the courtyard; near the
fountain; in the hallway; at the crossroads; by the gate; beside the chapel; in the orchard; near the lighthouse; on
the terrace; in the vineyard""".replace("\n", " ").split(";")]
DAYS = """Monday Tuesday Wednesday Thursday Friday Saturday Sunday""".split()
WEATHER = _table("""
rain,rainy,took an umbrella; snow,snowy,lit the stove; sunshine,sunny,sat outside; wind,windy,held on to a hat;
fog,foggy,lost the way; frost,frosty,wore two coats; thunder,stormy,hid under the roof; hail,hailing,ran indoors;
heat,sweltering,looked for shade; drizzle,drizzly,put on boots""")
NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
# Ways to say the same thing; "~word" in a template stands for any word of its row.
SYNONYMS = {(words := [word.strip() for word in row.split(",")])[0]: words for row in """
said,replied,answered,remarked,explained; walked,strolled,hiked,marched; road,street,lane,path; gift,present,surprise,
token; friend,companion,pal,mate; often,frequently,regularly,time and again; soon,shortly,before long; stayed,remained,
lingered; everyone,everybody,each person; very,extremely,really,terribly,quite; truly,indeed,certainly,surely; people,
folk,townspeople; money,coins,cash; happily,gladly,joyfully,merrily; visited,called on,dropped in on; suddenly,
all at once,unexpectedly; afternoon,evening,morning; thief,robber,bandit,burglar""".replace("\n", " ").split(";")}

# {A} is the subject ({Ao}, {As}: in object position, as a possessor; a pronoun may stand for it); the other slots are
# its facts. kind → relation → (statements, questions, the slot that answers).
FACTS: dict[str, dict[str, tuple[list[str], list[str], str]]] = {kind: {
    name: (statements.split("|"), questions.split("|"), slot) for name, statements, questions, slot in rows}
    for kind, rows in {
    "person": [
        ("birth", "{A} was born in {T}|{A} came into the world in {T}|{T} is the birthplace of {Ao}",
         "Where was {A} born|What is the birthplace of {A}|In which town did {A} come into the world", "T"),
        ("home", "{A} lives in {H}|{A} resides in {H}|{H} is where {A} makes {his} home",
         "Where does {A} live|In which town does {A} reside|What is the home town of {A}", "H"),
        ("trade", "{A} is a {J}|{A} works as a {J}|by trade {A} is a {J}|{A} earns {his} living as a {J}",
         "What does {A} do for a living|What is the trade of {A}|How does {A} earn {his} living", "J"),
        ("spouse", "{A} is married to {S}|{S} is the {wife} of {Ao}|{As} {wife} is called {S}",
         "Who is {A} married to|Who is the {wife} of {A}|What is the name of the {wife} of {A}", "S"),
        ("age", "{A} is {N} years old|{A} has lived for {N} years|{A} turned {N} this year",
         "How old is {A}|What is the age of {A}|How many years has {A} lived", "N"),
        ("pet", "{A} keeps a {P}|{A} has a {P} at home|{A} is the owner of a {P}",
         "Which animal does {A} keep|What animal is owned by {A}|What is the pet of {A}", "P"),
        ("likes", "{A} is fond of {F}|{A} likes {F}|{A} loves to eat {F}",
         "Which food does {A} like|What is {A} fond of|What does {A} love to eat", "F"),
        ("hates", "{A} dislikes {D}|{A} cannot stand {D}|{A} never touches {D}",
         "Which food does {A} dislike|What can {A} not stand|What does {A} never touch", "D"),
        ("friend", "{A} is a good friend of {B}|{B} is a close companion of {Ao}|{As} best friend is {B}",
         "Who is the best friend of {A}|Who is {A} a good friend of|Who is a close companion of {A}", "B")],
    "town": [
        ("country", "{A} lies in {C}|{A} is a town in {C}|{A} is part of {C}",
         "In which country does {A} lie|Which country is {A} part of|In what land is {A}", "C"),
        ("river", "{A} stands on the {R}|the {R} flows through {Ao}|the river of {Ao} is the {R}",
         "On which river does {A} stand|Which river flows through {A}|What is the river of {A} called", "R"),
        ("tongue", "the ~people of {Ao} speak {L}|{L} is spoken in {Ao}|the mother tongue of {Ao} is {L}",
         "What do the people of {A} speak|Which language is spoken in {A}|What is the mother tongue of {A}", "L"),
        ("goods", "{A} is famous for its {X}|{A} is well known for {X}|travellers come to {Ao} for its {X}",
         "What is {A} famous for|What is {A} well known for|Why do travellers come to {A}", "X"),
        ("founded", "{A} was founded in {Y}|the first stone of {Ao} was laid in {Y}|{A} was built in {Y}",
         "When was {A} founded|In which year was the first stone of {A} laid|When was {A} built", "Y"),
        ("mayor", "the mayor of {Ao} is {M}|{M} is the mayor of {Ao}|{M} governs {Ao}",
         "Who is the mayor of {A}|Who governs {A}|What is the name of the mayor of {A}", "M")],
    "country": [
        ("capital", "the capital of {A} is {K}|{K} is the capital of {A}|{A} is ruled from {K}",
         "What is the capital of {A}|Which town is the capital of {A}|From which town is {A} ruled", "K"),
        ("speech", "most people in {A} speak {L}|{L} is the language of {A}|in {A} children learn {L}",
         "Which language do people in {A} speak|What is the language of {A}|What do children in {A} learn", "L"),
        ("head", "the head of {A} is {M}|{M} rules {A}|{M} is the ruler of {A}",
         "Who rules {A}|Who is the ruler of {A}|Who is the head of {A}", "M")],
    "animal": [
        ("diet", "{A} eat {E}|{A} feed on {E}|{A} live on a diet of {E}|the favourite food of {A} is {E}",
         "What do {A} eat|What do {A} feed on|What is the favourite food of {A}", "E"),
        ("habitat", "{A} live in {W}|{A} make their homes in {W}|{W} are the home of {A}",
         "Where do {A} live|Where do {A} make their homes|In what places are {A} found", "W"),
        ("class", "a {a} is a {Q}|the {a} is a kind of {Q}|the {a} belongs among the {Q}s",
         "What kind of animal is a {a}|To which class does the {a} belong|What is a {a}", "Q"),
        ("sound", "{A} {V} when they are hungry|{A} {V}|you can hear {A} {V} at night",
         "What do {A} do when they are hungry|Which sound do {A} make|How do {A} sound", "V"),
        ("young", "a young {a} is called a {Z}|a {Z} is a young {a}|the young of a {a} is known as a {Z}",
         "What is a young {a} called|How do we call a young {a}|What is the young of a {a}", "Z")],
    "trade": [
        ("tool", "a {A} uses a {O}|every {A} owns a {O}|a {A} cannot work without a {O}",
         "Which tool does a {A} use|What can a {A} not work without|What does every {A} own", "O"),
        ("place", "a {A} works in a {G}|you will find a {A} in a {G}|a {G} is the workplace of a {A}",
         "Where does a {A} work|Where will you find a {A}|What is the workplace of a {A}", "G"),
        ("product", "a {A} makes {X}|a {A} sells {X}|we get {X} from a {A}",
         "What does a {A} make|What does a {A} sell|What do we get from a {A}", "X"),
        ("name", "a {A} is also called a {a}|a {a} is the same as a {A}|another word for a {A} is {a}",
         "What is a {A} also called|What is another word for a {A}|What is the same as a {A}", "a")],
    "object": [
        ("stuff", "a {A} is made of {U}|{U} is used to make a {A}|every {A} in this land is of {U}",
         "What is a {A} made of|What is used to make a {A}|Of which material is every {A}", "U"),
        ("use", "a {A} is a {Q}|the {A} is a kind of {Q}|we call the {A} a {Q}",
         "What kind of thing is a {A}|What is a {A}|What do we call the {A}", "Q")],
    "food": [
        ("taste", "the taste of {A} is {U}|cooks find {A} {U}|most people call {A} {U}",
         "What is the taste of {A}|How do cooks find {A}|What do most people call {A}", "U"),
        ("sort", "cooks place {A} among the {Q}|shops sell {A} as {Q}|you will find {A} among the {Q}",
         "Among what do cooks place {A}|As what do shops sell {A}|Among what will you find {A}", "Q")]}.items()}

# Something goes from {A} to {B}: (statements, questions with the slot that answers).
TRANSFERS = [(statements.split(" / "), [tuple(q.split("=")) for q in questions.split("|")])
             for statements, questions in [
    ("{A} [gave|handed] {O} to {B} / {A} [gave|handed] {B} {O} / {B} [got|received] {O} from {A} / "
     "{O} was given to {B} by {A}",
     "Who gave {O} to {B}=A|Who received {O} from {A}=B|What did {A} give to {B}=O"),
    ("{A} sold {O} to {B} / {A} sold {B} {O} / {B} [bought|purchased] {O} from {A} / {O} was sold to {B} by {A}",
     "Who sold {O} to {B}=A|Who bought {O} from {A}=B|What did {A} sell to {B}=O"),
    ("{A} lent {O} to {B} / {A} lent {B} {O} / {B} borrowed {O} from {A} / {O} was lent to {B} by {A}",
     "Who lent {O} to {B}=A|Who borrowed {O} from {A}=B|What did {B} borrow from {A}=O"),
    ("{A} sent {O} to {B} / {A} [sent|mailed] {B} {O} / {B} was sent {O} by {A} / {O} was sent to {B} by {A}",
     "Who sent {O} to {B}=A|Who was sent {O} by {A}=B|What did {A} send to {B}=O"),
    ("{B} stole {O} from {A} / {A} was robbed of {O} by {B} / {B} took {O} away from {A} / "
     "{O} was stolen from {A} by {B}",
     "Who was robbed of {O} by {B}=A|Who stole {O} from {A}=B|What did {B} steal from {A}=O")]]

# A pronoun {p} that one word decides: sentence, the words that mean one of the two, which one, the words for the other.
SCHEMAS = _table("""
{A} could not lift {B} because {p} was too,heavy weighty massive,B,weak feeble puny; {A} lost the race against {B}
because {p} was so,fast quick swift,B,slow sluggish tired; {A} lent money to {B} because {p} was,rich wealthy
generous,A, poor penniless needy; {A} asked {B} for bread because {p} was,hungry starving poor,A,generous kind rich;
{A} took {B} to the doctor because {p} was,sick ill unwell,B,careful kind cautious; {A} lost the fight with {B}
because {p} was,strong mighty powerful,B,weak feeble sick; {A} carried the bags of {B} because {p} was,tired weary
weak,B,strong helpful kind; {A} let {B} solve the riddle because {p} was so,clever smart bright,B,stupid foolish
tired; {A} ran away from {B} because {p} was so,afraid scared fearful,A,cruel mean angry; {A} told {B} a joke because
{p} was,sad unhappy gloomy,B,funny witty cheerful; {a} did not fit into {b} because {p} was too,big large huge,A,small
little tiny; {a} broke {b} because {p} was so,hard solid heavy,A,fragile brittle frail; {a} was hidden behind {b}
because {p} was so,small little tiny,A,big large huge; {a} could not cut {b} because {p} was too,blunt rounded
soft,A,hard thick solid""")

# ------------------------------------------------------------------------------------------------ the world's facts

Entity = dict[str, str]


class Line(NamedTuple):
    """One sentence and the questions it answers, as (question, answer) pairs."""

    text: str
    qa: Sequence[tuple[str, str]] = ()


def number(n: int) -> str:
    """``n`` below one hundred in words: 32 → ``thirty-two``."""
    return NUMBERS[n] if n <= 20 else TENS[n // 10] + ("-" + NUMBERS[n % 10] if n % 10 else "")


def _names(rng: random.Random, count: int, endings: str, taken: set[str]) -> list[str]:
    """``count`` new names built from syllables."""
    parts = [part.split() for part in ("B D F G H J K L M N P R S T V Z Br Dr Kr Tr St Sh Th Fl", "a e i o u a e o",
                                       "l r m n s d v k t rl nd lm", endings)]
    names: list[str] = []
    while len(names) < count:
        name = "".join(rng.choice(part) for part in parts)
        if name not in taken and len(name) > 4:
            names.append(name)
            taken.add(name)
    return names


def _people(rng: random.Random, couples: list[tuple[str, str]], world: dict[str, list[Entity]]) -> list[Entity]:
    """Two people for each couple (woman, man), with a birthplace, a home, a trade, an age, a pet and tastes.

    ``N`` is the age in words, ``age`` the number that comparisons go by: for them all twenties are one age.
    """
    people = []
    for i, (woman, man) in enumerate(couples):
        for name, spouse in ((woman, man), (man, woman))[::1 if i % 2 else -1]:
            birth, home = rng.choice(world["town"]), rng.choice(world["town"])
            trade, pet = rng.choice(world["trade"]), rng.choice(world["animal"][:16])
            likes, hates = rng.sample(world["food"], 2)
            age, words = 20 + rng.randrange(70), "she her her husband" if name == woman else "he him his wife"
            people.append({"A": name, "S": spouse, "T": birth["A"], "C": birth["C"], "L": birth["L"], "H": home["A"],
                           "HC": home["C"], "J": trade["A"], "O": trade["O"], "G": trade["G"], "P": pet["a"],
                           "Q": pet["Q"], "F": likes["A"], "D": hates["A"], "age": str(max(age, 29)), "N": number(age),
                           **dict(zip(("p", "him", "his", "wife"), words.split(), strict=True))})
    rng.shuffle(people)
    for i, person in enumerate(people):
        person["B"], person["height"] = people[i - 1]["A"], str(rng.randrange(1000))
    return people


@functools.cache
def world() -> dict[str, list[Entity]]:
    """The fixed facts: kind → entities, each a dictionary of the slots that ``FACTS`` reads. No seed changes them."""
    rng, taken = random.Random("toyworld"), set()
    endings = zip("via nia land dora stan".split() * 4, "vish nese lian rese".split() * 5, strict=True)
    countries = [{"A": stem + land, "L": stem + tongue} for stem, (land, tongue) in zip(
        _names(rng, 20, "a o e", taken), endings, strict=True)]
    rivers, _ = _names(rng, 24, "er enne ow", taken), _names(rng, 120, "ov sen kin man berg etti ard wick", taken)
    women, men = _names(rng, 130, "a ia ina elle ea", taken), _names(rng, 130, "o us in ek or an", taken)
    towns = [{"A": name, "C": countries[i % 20]["A"], "L": countries[i % 20]["L"], "R": rng.choice(rivers),
              "X": rng.choice(TRADES)[4], "Y": str(rng.randrange(1200, 1900, 10))}
             for i, name in enumerate(_names(rng, 100, "ton ville ham burg mouth field dale port", taken))]
    facts = {"town": towns, "country": countries,
             "animal": [dict(zip("aAQEWVZ", row, strict=True)) for row in ANIMALS],
             "trade": [dict(zip("AaOGX", row, strict=True)) for row in TRADES],
             "object": [{"A": thing, "U": of, "Q": sort} for sort, things in OBJECTS.items() for thing, of in things],
             "food": [{"A": food, "U": taste, "Q": sort} for sort, taste, *foods in FOODS for food in foods]}
    people = facts["person"] = _people(rng, list(zip(women, men, strict=True)), facts)
    for i, place in enumerate(towns + countries):
        place["M"] = people[(7 * i + 3) % len(people)]["A"]
    for town, country in zip(towns, countries, strict=False):
        country["K"] = town["A"]
    rng.shuffle(towns)
    for kind in ("object", "food"):  # a fixed order that mixes the sorts
        facts[kind].sort(key=lambda entity: zlib.crc32(entity["A"].encode()))
    return facts


# ------------------------------------------------------------------------------------------------------- the writer

_CHOICE, _SLOT = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\{(\w+)\}|~(\w+)")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ne\b))")
_START = re.compile(r"(?:^|[.?!] \"?|^\")[a-z]")


def polish(text: str) -> str:
    """Put capitals at sentence starts, ``an`` before vowels, and a full stop at the end."""
    text = _ARTICLE.sub(r"\1n ", _START.sub(lambda m: m[0][:-1] + m[0][-1].upper(), text))
    return text if text[-1] in '.?!"' else text + "."


class Writer:
    """Chooses words and fills templates, with one ``random.Random``.

    ``part`` is ``None`` (documents: all words), ``"train"`` or ``"held"``: of every three words in a list the tasks'
    training split uses two; the validation and test splits take the third in one choice of two, else any.
    """

    def __init__(self, key: str, part: str | None = None) -> None:
        self.rng, self.part = random.Random(key), part
        self.random, self.choice = self.rng.random, self.rng.choice

    def pick(self, items: Sequence[Any], *without: Any) -> Any:
        """One item of the list, the first being the most common (probability ~ rank^-1/2), none of ``without``."""
        while True:
            i = int(len(items) * self.random() ** 2)
            if len(items) > 3 and (self.part == "train" or self.part == "held" and self.random() < 0.5):
                i = i - i % 3 + (2 if self.part == "held" else i % 2)
            if i < len(items) and items[i] not in without:
                return items[i]

    def say(self, template: str, **slots: str) -> str:
        """Fill ``{slots}``, choose among ``[a|b]`` and among the synonyms of ``~word``, and polish."""
        while "[" in template:
            template = _CHOICE.sub(lambda m: self.choice(m[1].split("|")), template)
        return polish(_SLOT.sub(lambda m: slots[m[1]] if m[1] else self.choice(SYNONYMS[m[2]]), template))

    def line(self, template: str, qa: Sequence[tuple[str, str]] = (), **slots: str) -> Line:
        """``say`` as a line that answers the questions ``qa``."""
        return Line(self.say(template, **slots), qa)

    def entity(self, kind: str, *without: Entity) -> Entity:
        """One person, town, … of the world."""
        return self.pick(world()[kind], *without)

    def people(self, count: int = 2) -> list[Entity]:
        """Different people."""
        people: list[Entity] = []
        while len(people) < count:
            people.append(self.entity("person", *people))
        return people

    def thing(self) -> str:
        """An object, in half the cases with a property: ``the old lamp``."""
        noun = self.entity("object")["A"]
        return f"the {self.pick(self.choice(self.pick(THING_PAIRS)))} {noun}" if self.random() < 0.5 else f"the {noun}"

    def who(self) -> str:
        """A person's name, or a trade: ``the baker``."""
        return self.entity("person")["A"] if self.random() < 0.7 else "the " + self.pick(TRADES)[self.random() < 0.3]

    def where(self) -> str:
        """A place: ``by the bridge`` or ``in`` some town."""
        return self.pick(PLACES) if self.random() < 0.6 else "in " + self.entity("town")["A"]

    def deed(self) -> str:
        """The past of a verb: ``repaired``."""
        return self.choice(self.pick(ACTIONS))

    def fact(self, kind: str, relation: str, entity: Entity, pronoun: bool = False) -> Line:
        """State one fixed fact, with the questions that it answers."""
        statements, questions, slot = FACTS[kind][relation]
        slots = entity | {"Ao": entity["A"], "As": entity["A"] + "'s"}
        asked = [(polish(q.format_map(slots) + "?"), entity[slot]) for q in questions]
        if pronoun:
            slots |= {"A": entity["p"], "Ao": entity["him"], "As": entity["his"]}
        return self.line(self.choice(statements), asked, **slots)

    def transfer(self, kind: int, form: int | None = None, tail: str = "", **slots: str) -> Line:
        """O goes from A to B, in one of the ways of ``TRANSFERS``."""
        statements, questions = TRANSFERS[kind]
        text = statements[form] if form is not None else self.choice(statements)
        return self.line(text + tail, [(q.format_map(slots) + "?", slots[a]) for q, a in questions], **slots)

    def action(self, verb: str, passive: bool = False, place: str = "", day: str = "", **slots: str) -> Line:
        """A does something to O, told in the active or the passive voice."""
        who, what = slots["A"], slots["O"]
        asked = [(f"Who {verb} {what}?", who), (f"What was {verb} by {who}?", what)]
        asked += [(f"Where was {what} {verb}?", place)] if place else []
        asked += [(f"On which day was {what} {verb}?", day)] if day else []
        text = f"{what} was {verb} by {who}" if passive else f"{who} {verb} {what}"
        return self.line(text + (place and f" {place}") + (day and f" on {day}"), asked)

    def _subject(self, many: bool) -> str:
        """A subject for ``clause``: people, a trade or an animal, at times with another noun in between."""
        kind = self.choice("aatp")
        if kind == "a":
            noun = self.pick([animal for animal in world()["animal"] if animal["a"] != animal["A"]])["aA"[many]]
        else:
            noun = self.pick(TRADES)[0] + "s" * many
        if kind == "p":
            a, b = (person["A"] for person in self.people())
            return f"{a} and {b}" if many else a
        subject = self.choice(("the ", "[many|some|both|these] " if many else "[a|every|this] ")) + noun
        if self.random() < 0.4:
            near = self.entity("animal")
            subject += f" [near|behind|beside] the {near['aA'[self.random() < 0.5]]}"
        return subject

    def clause(self, fault: str = "") -> str:
        """A sentence about agreement and verb forms; ``fault`` (agree, form, order) breaks a rule of grammar."""
        many = self.random() < 0.5
        subject, (base, past, done, going) = self._subject(many), self.pick(VERBS)
        plural = many != (fault == "agree")
        forms = [("are" if plural else "is", going), ("have" if plural else "has", done),
                 ("", base if plural else _s(base)), ("were" if plural else "was", going),
                 ("do not" if plural else "does not", base), ("will", base), ("", past)]
        aux, verb = forms[self.rng.randrange(5 if fault == "agree" else 7)]
        if fault == "form":
            wrong = {"are": [base], "is": [base], "were": [base], "was": [base], "": [f"be {base}", f"is {base}"],
                     "have": [base, going], "has": [base, going]}.get(aux, [past, going])
            verb = self.choice([form for form in wrong if form != verb] or [f"be {base}"])
        tail = self.choice(("", " [often|again|together]" if many else " [often|again]")) + " " + self.pick(PLACES)
        words = [subject, aux, verb, tail]
        if fault == "order":
            words = self.choice([[subject, verb, aux or "will", tail], [subject, aux, "the", verb, tail],
                                 [verb, aux or "the", subject, tail], [aux or "the", tail, verb, subject]])
        return self.say(" ".join(" ".join(words).split()))


def _s(word: str) -> str:
    """The third person of a verb, the plural of a noun."""
    return word + "es" if word.endswith(("sh", "ss", "ch", "x", "o")) else word + "s"


# -------------------------------------------------------------------------------------------------------- documents

AGAIN = (". in other words, ", ". that is, ", ". this means that ", ". we can also say that ", ", so ")
NOT = ("it is not true that ", "it is wrong to say that ", "nobody would say that ")
SO = ("{0}, so {1}", "since {0}, {1}", "{0}. this means that {1}", "if {0}, then {1}", "{0}. therefore {1}",
      "{0}. in other words, {1}")


def _facts(w: Writer, kind: str, entity: Entity, count: int) -> list[Line]:
    """Some facts about one entity; a person becomes a pronoun after the first sentence."""
    relations = w.rng.sample(list(FACTS[kind]), min(count, len(FACTS[kind])))
    return [w.fact(kind, r, entity, kind == "person" and i > 0 and w.random() < 0.6) for i, r in enumerate(relations)]


def article(w: Writer) -> list[Line]:
    """Facts about a few entities of one kind."""
    kind = w.choice(("person", "person", "town", "town", "country", "animal", "animal", "trade", "object", "food"))
    entity, lines = w.entity(kind), []
    for _ in range(w.rng.randint(1, 2) if kind in ("person", "town") else w.rng.randint(2, 3)):
        lines += _facts(w, kind, entity, w.rng.randint(3, 6))
        entity = w.entity(kind, entity)
    return lines


def inference(w: Writer) -> list[Line]:
    """What follows from the facts about some people, and what does not."""
    lines: list[Line] = []
    for _ in range(w.rng.randint(2, 3)):
        x, y = w.people()
        wrong = w.entity("town")["C"]
        pairs = [("{A} was born in {T}", "{A} was born in {C}"), ("{A} lives in {H}", "{A} lives in {HC}"),
                 ("{A} is a {J}", "{A} [uses a {O}|works in a {G}]"), ("{A} keeps a {P}", "{A} keeps a {Q}"),
                 ("{A} was born in {T}", "the mother tongue of {A} is {L}"),
                 ("{A} is married to {S}", "{S} is married to {A}"), ("{A} keeps a {P}", "{A} keeps an animal")]
        if x["age"] != y["age"]:
            old, new = sorted((x, y), key=lambda person: -int(person["age"]))
            ages = [f"{old['A']} is [older|more aged] than {new['A']}", f"{new['A']} is younger than {old['A']}"]
            w.rng.shuffle(ages)
            pairs += [tuple(ages), (f"{old['A']} is {old['N']} and {new['A']} is {new['N']} years old", ages[0])]
        tall, short = (person["A"] for person in sorted((x, y), key=lambda person: -int(person["height"])))
        heights = (f"{tall} is taller than {short}", f"{short} is shorter than {tall}")
        pairs.append(heights if w.random() < 0.5 else heights[::-1])
        for first, then in w.rng.sample(pairs, 3):
            lines.append(w.line(w.choice(SO).replace("{0}", first).replace("{1}", then), **x))
        if wrong != x["C"]:
            lines.append(w.line("{A} was [not born in {w}, but in {C}|born in {C} and not in {w}]", w=wrong, **x))
    return lines


def story(w: Writer) -> list[Line]:
    """Something changes hands and people act; who has it in the end follows."""
    trio = a, b, _ = w.people(3)
    town, thing, place, day = w.entity("town")["A"], w.thing(), w.pick(PLACES), w.pick(DAYS)
    meeting = w.choice(("on {d}, {A} met {B} {x} in {T}", "{A} and {B} met {x} in {T} on {d}",
                        "it was {d} when {A} ~visited {B} in {T}"))
    asked = [(f"On which day did {a['A']} meet {b['A']}?", day),
             (f"In which town did {a['A']} and {b['A']} meet?", town)]
    lines = [w.line(meeting, asked, A=a["A"], B=b["A"], T=town, d=day, x=place)]
    lines.append(w.line("[at first|in those days|that ~afternoon] {A} had {O}", A=a["A"], O=thing))
    owner = a
    for _ in range(w.rng.randint(2, 4)):
        event = w.random()
        if event < 0.55:
            other, kind = w.choice([person for person in trio if person is not owner]), w.rng.randrange(len(TRANSFERS))
            lines.append(w.transfer(kind, A=owner["A"], B=other["A"], O=thing))
            if w.random() < 0.5:
                glad, sad = (w.pick(words) for words in PERSON_PAIRS[0])
                mood = (f"{other['p']} was ~very {glad}" if kind < 4 else
                        f"{owner['p']} was ~very {sad} about the ~thief")
                after = (f"now {other['A']} had {thing}", "{A} [no longer had {O}|was left without {O}]", mood)
                lines.append(w.line(w.choice(after), A=owner["A"], O=thing))
            owner = other
        elif event < 0.8:
            verb, who = w.deed(), w.choice(trio)["A"]
            lines.append(w.action(verb, w.random() < 0.5, w.where(), w.pick(DAYS) if w.random() < 0.3 else "", A=who,
                                  O=w.thing()))
        else:
            who, goal = w.choice(trio), w.entity("town")["A"]
            lines.append(w.line("[~soon|later|after that] {A} ~walked to {T}. {p} ~stayed there because of the {r}",
                                [(f"Where did {who['A']} go?", goal)], **who | {"T": goal, "r": w.pick(WEATHER)[0]}))
    lines.append(w.line("[in the end|so|finally] {A} [had|was the owner of] {O}",
                        [(f"Who had {thing} in the end?", owner["A"])], A=owner["A"], O=thing))
    return lines


def restatement(w: Writer) -> list[Line]:
    """The same thing said twice in different words, or denied in opposite words."""
    lines: list[Line] = []
    for _ in range(w.rng.randint(2, 4)):
        kind, a, b, o = w.choice("tpaxjqhh"), w.entity("person")["A"], w.who(), w.thing()
        again, deny = w.choice(AGAIN), ". " + w.choice(NOT)
        if kind in "tp":
            lines += _properties(w, a if kind == "p" else "", again)
        elif kind == "a":
            x, y = w.rng.sample(w.pick(ACTIONS), 2)
            ways = [f"{b} {x} {o}", f"{b} {y} {o}", f"{o} was {y} by {b}", f"it was {b} who {y} {o}"]
            first, then = w.rng.sample(ways, 2)
            lines.append(w.line(first + again + then))
            lines.append(w.line(first + deny + then.replace(b, w.entity("person")["A"]) if w.random() < 0.4 else
                                f"to say that something was {x} is to say that it was {y}"))
        elif kind == "x" and a != b:
            first, then = w.rng.sample(TRANSFERS[w.rng.randrange(len(TRANSFERS))][0], 2)
            lines.append(w.line(first + again + then, A=a, B=b, O=o))
            swapped = then.translate(str.maketrans("AB", "BA"))
            lines.append(w.line(first + deny + swapped, A=a, B=b, O=o))
        elif kind == "q":
            lines += _questions(w)
        elif kind == "h":
            lines.append(generality(w, a)[0])
        else:
            trade = w.entity("trade")
            names = [trade["A"], trade["a"]]
            w.rng.shuffle(names)
            verb = w.deed()
            lines.append(w.line(f"the {names[0]} {verb} {o}{again}the {names[1]} {verb} {o}"))
    return lines


def _properties(w: Writer, person: str, again: str) -> list[Line]:
    """Synonyms and opposites, of a person or else of an object."""
    pair = w.pick(PERSON_PAIRS if person else THING_PAIRS)
    same, other = pair if w.random() < 0.5 else pair[::-1]
    x, y = w.rng.sample(same, 2)
    subject = person or f"the {w.entity('object')['A']}"
    return [w.line(f"{subject} was {x}{again}{subject} was {y}"), w.line(w.choice((
        f"{subject} was not {w.choice(other)}", f"the opposite of {x} is {w.choice(other)}",
        f"{w.choice(same)} is not the same as {w.choice(other)}")))]


def _questions(w: Writer) -> list[Line]:
    """One question asked in two ways, and its answer."""
    kind = w.choice(list(FACTS))
    fact = w.fact(kind, w.choice(list(FACTS[kind])), w.entity(kind))
    (first, answer), (then, _) = w.rng.sample(fact.qa, 2)
    return [w.line(f"{first} [in other words,|that is,|to put it differently,] {then[0].lower() + then[1:]}"),
            Line(polish(answer) if w.random() < 0.5 else fact.text)]


def generality(w: Writer, a: str) -> tuple[Line, str, str, str]:
    """Low implies high: a line that says so, the low statement, the high one, and another high one."""
    sort, low, high, verbs = w.choice((
        ("object", "A", "Q", w.pick(ACTIONS)), ("animal", "a", "Q", ["saw", "fed", "heard"]),
        ("food", "A", "Q", ["ate", "cooked", "sold"]), ("town", "A", "C", ["stayed", "was seen"])))
    x, y = w.entity(sort), w.entity(sort)
    start = f"{a} {w.choice(verbs)} " + {"food": "", "town": "in "}.get(sort, "a ")
    special, general, other = start + x[low], start + x[high], start + y[high]
    text = f"{special}[, so |. in other words, |. this means that ]{general}"
    if general != other and w.random() < 0.4:
        text = f"{special}. it is not true that {other}"
    return w.line(text), special, general, other


OPINIONS = ("the {x} [was|is] [|~very |truly ]{g}", "[I|we|many] found the {x} {g} and the {y} {h}",
            "the {k} has a {g} {x}", "the {x} was {b}, but the {y} was {g}", "although the {x} is {b}, the {k} is {g}",
            "the {x} was [not|never|hardly|far from] {b}", "this {k} is anything but {b}",
            "despite its {b} {x}, it is a {g} {k}", "it is a {g} {k} with a {h} {x}",
            "the {k} is {g}, even if the {x} seems {b}")
VERDICTS = ("[do not waste your ~money on this {k}|stay away from it|I was bored and left early|I want my ~money back|"
            "nobody should try it|one star out of five|I hated it|we will never come back|what a disaster]",
            "[I recommend this {k} to ~everyone|do not miss it|I was delighted and ~stayed to the end|it is worth the "
            "~money|~everyone should try it|five stars out of five|I loved it|we will come back ~soon|what a triumph]")
WEIGHTS = {False: "[it hardly matters that|it is a small point that|few will care that] ",
           True: "[above all,|what counts most is that|the main thing is that] "}


def opinion(w: Writer, good: bool, kind: int | None = None) -> str:
    """A sentence that judges something; contrast ends on the judgement, negation turns it."""
    name, *aspects = ASPECTS[kind if kind is not None else w.rng.randrange(len(ASPECTS))]
    x, y = w.rng.sample(aspects, 2)
    agree, oppose = (GOOD, BAD) if good else (BAD, GOOD)
    form = w.rng.randrange(len(OPINIONS))
    return w.say(OPINIONS[form], k=name, x=x, y=y, g=w.pick(agree), h=w.pick(agree), b=w.pick(oppose))


def weighted(w: Writer, good: bool, kind: int, heavy: bool | None) -> str:
    """An opinion that is said to matter much (``heavy``), little, or neither (``None``)."""
    text = opinion(w, good, kind)
    if heavy is None:
        return text
    return w.say(WEIGHTS[heavy] + (text if text.startswith("I ") else text[0].lower() + text[1:]))


def review(w: Writer) -> list[Line]:
    """Opinions about one thing that mostly agree, and an open verdict that tells which way."""
    good, kind = w.random() < 0.5, w.rng.randrange(len(ASPECTS))
    (name, *aspects), author, lines = ASPECTS[kind], w.entity("person")["A"], []
    if w.random() < 0.6:
        lines.append(w.line("[last week|on {d}|yesterday] [I|we|my ~friend {A}] tried the [new|famous|old] {k} in {T}",
                            k=name, A=author, d=w.pick(DAYS), T=w.entity("town")["A"]))
    for _ in range(w.rng.randint(3, 6)):
        agrees, marked = w.random() < 0.88, w.random()
        heavy = agrees if marked < (0.25 if agrees else 0.6) else None
        lines.append(Line(weighted(w, agrees == good, kind, heavy)))
    if w.random() < 0.4:
        x, liked = w.choice(aspects), w.random() < 0.5
        word, verbs = w.pick((BAD, GOOD)[liked]), ("disliked hated loathed", "liked loved enjoyed")[liked]
        lines.append(w.line("{A} [thought|said] that the {x} was {g}, so {A} {v} it", A=author, x=x, g=word,
                            v=w.choice(verbs.split())))
    lines.append(w.line(VERDICTS[good], k=name))
    if w.random() < 0.3:
        lines.insert(0, lines.pop())
    return lines


def dialogue(w: Writer) -> list[Line]:
    """Two people ask and answer about facts."""
    a, b = w.people()
    lines = [w.line("{A} and {B} [were talking|sat|talked] {x}", A=a["A"], B=b["A"], x=w.pick(PLACES))]
    for _ in range(w.rng.randint(2, 4)):
        kind = w.choice(list(FACTS))
        fact = w.fact(kind, w.choice(list(FACTS[kind])), w.entity(kind))
        question, answer = w.choice(fact.qa)
        reply = fact.text[:-1] if w.random() < 0.6 else answer
        lines.append(Line(f'"{question}" asked {a["A"]}.'))
        lines.append(Line(w.say(f'"{reply},"') + f" {w.choice(SYNONYMS['said'])} {b['A']}."))
        if w.random() < 0.3:
            a, b = b, a
    return lines


def quiz(w: Writer) -> list[Line]:
    """A passage, then questions about it with their answers."""
    lines = w.choice((article, story))(w)[:5]
    asked = [w.choice(line.qa) for line in lines if line.qa]
    return lines + [Line(f"Question: {q} Answer: {a}.") for q, a in w.rng.sample(asked, min(3, len(asked)))]


def habits(w: Writer) -> list[Line]:
    """Sentences about agreement, tense and number, with a sum at times."""
    lines = [Line(w.clause()) for _ in range(w.rng.randint(4, 8))]
    if w.random() < 0.5:
        who, things, n, k = w.entity("person"), _s(w.entity("object")["A"]), w.rng.randint(2, 9), w.rng.randint(1, 9)
        lines.append(w.line("{A} had {n} {o}. {p} [bought|found|got] {k} more. now {p} had {m} {o}", **who, o=things,
                            n=number(n), k=number(k), m=number(n + k)))
    return lines


def weather(w: Writer) -> list[Line]:
    """The weather in some towns and what people did about it."""
    lines = []
    for _ in range(w.rng.randint(2, 3)):
        town, who, (noun, adjective, deed) = w.entity("town"), w.entity("person"), w.pick(WEATHER)
        lines.append(w.line("[there was {n}|it was {j}] in {t} on {d}. because of the {n}, {A} {x}", n=noun,
                            j=adjective, x=deed, t=town["A"], d=w.pick(DAYS), **who))
        lines.append(w.line("[~soon|~often|~suddenly|later] {p} met a ~friend on the ~road and ~happily gave {him} a "
                            "~gift", **who))
    return lines


def schema(w: Writer) -> tuple[str, str, str, str]:
    """A pronoun that one word decides: the text before it, the text after it, whom it means, whom it does not mean."""
    text, words, right, opposite = w.choice(SCHEMAS)
    wrong = "AB".replace(right, "")
    if w.random() < 0.5:
        words, right, wrong = opposite, wrong, right
    if "{a}" in text:
        x, y, pronoun = "the " + w.entity("object")["A"], "the " + w.entity("object")["A"], "it"
    else:
        a, b = w.people()
        while a["p"] != b["p"]:
            a, b = w.people()
        x, y, pronoun = a["A"], b["A"], a["p"]
    names = {"A": x, "B": y}
    text = w.say(f"{text} {w.choice(words.split())}", a=x, b=y, p=pronoun, **names)
    return text, text.split(f" because {pronoun} ")[1][:-1], names[right], names[wrong]


def riddles(w: Writer) -> list[Line]:
    """Pronouns, and whom they mean."""
    lines = []
    for _ in range(w.rng.randint(2, 4)):
        text, reason, right, wrong = schema(w)
        full = f"{right} {reason}"
        last = full if right.startswith("the ") else f"it was {right} and not {wrong} who {reason}"
        lines.append(Line(text + " " + w.say(w.choice((full, f"that is, {full}", f"in other words, {full}", last)))))
    return lines


KINDS = (article, article, article, inference, inference, story, story, restatement, restatement, review, review,
         dialogue, quiz, habits, weather, riddles)


def document(index: int, seed: int = 0) -> str:
    """Document ``index``, 5 to 12 lines of one or more kinds: a pure function of ``(seed, index)``."""
    w = Writer(f"{seed}/document/{index}")
    lines = w.choice(KINDS)(w)
    while len(lines) < 5:
        lines += w.choice(KINDS)(w)
    return " ".join(line.text for line in lines[:12])


def documents(n: int | None = None, *, start: int = 0, seed: int = 0) -> Iterator[str]:
    """Documents ``start``, ``start + 1``, …: ``n`` of them, or without end."""
    return (document(i, seed) for i in (itertools.count(start) if n is None else range(start, start + n)))


def train_tokenizer(vocab_size: int = 3072, n_documents: int = 20000, seed: int = 0) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer, trained on the world's documents; the same bytes each time.

    About 2,300 words occur in the world; with 3,072 pieces the common ones are whole and the rare ones fall in two.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,;:?!'\"-()", *letters, *(f"##{x}" for x in letters)]
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    # All one-letter pieces are given first, so that their order, and with it the order of ties, is fixed.
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    model.train_from_iterator(documents(n_documents, seed=seed), trainer)
    vocabulary = sorted(model.get_vocab(), key=model.token_to_id)
    return BertTokenizerFast(vocab={piece: i for i, piece in enumerate(vocabulary)}, do_lower_case=True,
                             model_max_length=512)


# ----------------------------------------------------------------------------------------------------------- tasks
# Each maker returns the texts of one row. Words differ between the splits (Writer.pick), rules do not.

FUNCTION_WORDS = frozenset("the a to by from was is of in on".split())


def _other(w: Writer, thing: str) -> str:
    """Another object than ``thing``."""
    while (other := w.thing()).split()[-1] == thing.split()[-1]:
        pass
    return other


def _cola(w: Writer, label: int) -> tuple[str, ...]:
    """A sentence that is well formed (1), or has one fault of agreement, verb form or word order (0)."""
    if w.random() < 0.6:
        return (w.clause("" if label else w.choice(("agree", "agree", "form", "order"))),)
    (a, b), form = w.people(), w.rng.randrange(3)
    if form == 0:
        line = w.transfer(w.rng.randrange(5), A=a["A"], B=b["A"], O=w.thing())
    elif form == 1:
        line = w.action(w.deed(), w.random() < 0.6, w.where(), A=a["A"], O=w.thing())
    else:
        line = w.fact("person", w.choice(list(FACTS["person"])), a)
    words = line.text[:-1].split()
    if not label:  # leave out a function word, or let it change places with the next
        i = w.choice([i for i, word in enumerate(words[:-1]) if i and word in FUNCTION_WORDS] or [1])
        words[i:i + 2] = words[i + 1:i + 2] if w.random() < 0.4 else words[i + 1:i - 1:-1]
    return (polish(" ".join(words)),)


def _sst2(w: Writer, label: int) -> tuple[str, ...]:
    """A judgement, good (1) or bad (0)."""
    return (opinion(w, bool(label)),)


def _mrpc(w: Writer, label: int) -> tuple[str, ...]:
    """Two ways to tell one event (1); or two events that differ in who, what or what was done (0)."""
    a, b, o = w.entity("person")["A"], w.who(), w.thing()
    tail = w.choice(("", " " + w.where(), " on " + w.pick(DAYS)))
    change = "" if label else w.choice(("who", "what", "deed"))
    other = _other(w, o) if change == "what" else o
    if w.random() < 0.5 and a != b:
        kind, (first, then) = w.rng.randrange(5), w.rng.sample(range(4), 2)
        slots = {"A": b, "B": a} if change == "who" else {"A": a, "B": b}
        return (w.transfer(kind, first, tail, A=a, B=b, O=o).text,
                w.transfer((kind + 1) % 4 if change == "deed" else kind, then, tail, O=other, **slots).text)
    verbs, c = w.pick(ACTIONS), b
    x, y = w.rng.sample(verbs, 2)
    if change == "deed":
        y = w.choice(w.pick(ACTIONS, verbs))
    while change == "who" and c == b:
        c = w.entity("person")["A"]
    return (w.action(x, w.random() < 0.5, tail[1:], A=b, O=o).text,
            w.action(y, w.random() < 0.5, tail[1:], A=c, O=other).text)


def _qqp(w: Writer, label: int) -> tuple[str, ...]:
    """Two questions with one meaning (1); or about another entity or another fact (0)."""
    kind, relation = w.choice([(kind, relation) for kind, relations in FACTS.items() for relation in relations])
    entity, (first, then) = w.entity(kind), w.rng.sample(range(3), 2)
    other, instead = entity, relation
    if not label and w.random() < 0.4:
        other = w.entity(kind, entity)
    elif not label:
        instead = w.choice([name for name in FACTS[kind] if name != relation])
    return w.fact(kind, relation, entity).qa[first][0], w.fact(kind, instead, other).qa[then][0]


def _stsb(w: Writer, target: float) -> tuple[str, str, float]:
    """Two events and how much of who, deed, thing, place and day they share, from 0 to 5."""
    trade, verbs, thing = w.entity("trade"), w.pick(ACTIONS), w.entity("object")
    names, place, day = [trade["A"], trade["a"]], w.pick(PLACES), w.pick(DAYS)
    alike = [other for other in world()["object"] if other["Q"] == thing["Q"] and other is not thing]
    first = [w.choice(names), w.choice(verbs), thing["A"], place, day]
    same = [w.choice(names), w.choice(verbs), thing["A"], place, day]
    other = [w.entity("trade", trade)["A"], w.choice(w.pick(ACTIONS, verbs)), w.entity("object", thing, *alike)["A"],
             w.pick(PLACES, place), w.pick(DAYS, day)]
    second, score = [], 0.0
    for slot, weight in enumerate((1.25, 1.5, 1.25, 0.5, 0.5)):
        shared = float(w.random() < target / 5)
        second.append((same if shared else other)[slot])
        if slot == 2 and not shared and w.random() < 0.5:  # another thing of the same kind counts half
            second[slot], shared = w.choice(alike)["A"], 0.5
        score += weight * shared
    one, two = (w.action(verb, w.random() < 0.4, where, when, A=f"the {who}", O=f"the {what}").text
                for who, verb, what, where, when in (first, second))
    return one, two, score


# What follows from a fact about a person: topic, premise, hypothesis, the slot that a false hypothesis gets wrong.
CONSEQUENCES = (
    ("birth", "{A} was born in {T}", "{A} was born in {C}", "C"), ("pet", "{A} keeps a {P}", "{A} keeps a {Q}", "Q"),
    ("birth", "{A} came into the world in {T}", "the mother tongue of {A} is {L}", "L"),
    ("home", "{A} lives in {H}", "{A} lives in {HC}", "HC"), ("work", "{A} is a {J}", "{A} works in a {G}", "G"),
    ("work", "{A} works as a {J}", "{A} uses a {O}", "O"))


def _entail(w: Writer, label: int, persons: bool = True) -> tuple[str, str]:
    """A premise and a hypothesis that follows (0), may be true or not (1) or cannot be true (2)."""
    p, q = w.people()
    first, second = w.entity("trade"), w.entity("trade")
    a, b = (p["A"], q["A"]) if persons else ("the " + first["A"], "the " + second["A"])
    rules = (_by_kind, _by_property, _by_event, _by_taste)
    if persons and w.random() < 0.5:
        alike = p["age"] == q["age"] or p["height"] == q["height"]
        return (_by_fact if alike or w.random() < 0.75 else _by_comparison)(w, label, p, q)
    return w.choice(rules[:2] + rules[3:] if first is second else rules)(w, label, a, b)


def _by_fact(w: Writer, label: int, p: Entity, q: Entity) -> tuple[str, str]:
    """Born in a town, so born in its country. The hypothesis has the same form whatever the label."""
    topic, premise, hypothesis, slot = w.choice(CONSEQUENCES)
    if label == 1:
        premise = w.choice([row[1] for row in CONSEQUENCES if row[0] != topic])
    while label == 2 and q[slot] == p[slot]:
        q = w.entity("person")
    told = p | {slot: q[slot]} if label == 2 or label == 1 and w.random() < 0.5 else p
    return w.say(premise, **p), w.say(hypothesis, **told)


def _by_comparison(w: Writer, label: int, p: Entity, q: Entity) -> tuple[str, str]:
    """Taller one way is shorter the other way; older says nothing about it."""
    scale, order = w.choice(("height", "age")), w.rng.randrange(2)
    words = {"height": ("taller", "shorter"), "age": ("older", "younger")}
    pair = [person["A"] for person in sorted((p, q), key=lambda person: -int(person[scale]))]
    then = pair if label == 2 or label == 1 and w.random() < 0.5 else pair[::-1]
    said = words[scale] if label != 1 else words["age" if scale == "height" else "height"]
    if order:
        pair, then = pair[::-1], then[::-1]
    return (w.say(f"{pair[0]} is {words[scale][order]} than {pair[1]}"),
            w.say(f"{then[0]} is {said[1 - order]} than {then[1]}"))


def _by_kind(w: Writer, label: int, a: str, b: str) -> tuple[str, str]:
    """A dog is a mammal, and what is no mammal is no dog; the other direction is open."""
    _, low, high, other = generality(w, a)
    no = w.choice(NOT)
    return tuple(w.say(text) for text in w.choice((
        [(low, high), (no + high, no + low)], [(high, low), (no + low, no + high)],
        [(low, other if other != high else no + high), (no + high, low), (low, no + high), (low, no + low)])[label]))


def _by_property(w: Writer, label: int, a: str, b: str) -> tuple[str, str]:
    """Synonyms follow and opposites contradict, unless negated; another property is open."""
    person = not a.startswith("the ")
    subject, table = (a, PERSON_PAIRS) if person else ("the " + w.entity("object")["A"], THING_PAIRS)
    row = w.pick(table)
    same, opposite = row if w.random() < 0.5 else row[::-1]
    (x, y), no = w.rng.sample(same, 2), w.random() < 0.5
    z = w.choice(w.choice(w.pick(table, row))) if label == 1 else w.choice(opposite) if no == (label == 0) else y
    return w.say(f"{subject} was {x}"), w.say(f"{subject} was {'not ' * no}{z}")


def _by_event(w: Writer, label: int, a: str, b: str) -> tuple[str, str]:
    """Who gives and who gets, told from two sides; the same about another thing is open."""
    thing, kind, (first, then) = w.thing(), w.rng.randrange(5), w.rng.sample(range(4), 2)
    tail, other = w.choice(("", " " + w.where())), _other(w, thing) if label == 1 else thing
    slots = {"A": b, "B": a} if label == 2 else {"A": a, "B": b}
    return (w.transfer(kind, first, tail, A=a, B=b, O=thing).text, w.transfer(kind, then, tail, O=other, **slots).text)


def _by_taste(w: Writer, label: int, a: str, b: str) -> tuple[str, str]:
    """Who calls a thing superb likes it; about another thing that says nothing."""
    good, (x, y) = w.random() < 0.5, w.rng.sample(w.pick(ASPECTS)[1:], 2)
    verbs = ("disliked hated loathed", "liked loved enjoyed")[good != (label == 2)].split()
    return (w.say("{A} [thought|said] that the {x} was {g}", A=a, x=x, g=w.pick((BAD, GOOD)[good])),
            w.say("{A} {v} the {x}", A=a, v=w.choice(verbs), x=y if label == 1 else x))


def _mnli(w: Writer, label: int) -> tuple[str, ...]:
    return _entail(w, label)


def _mnli_mismatched(w: Writer, label: int) -> tuple[str, ...]:
    return _entail(w, label, persons=False)


def _rte(w: Writer, label: int) -> tuple[str, ...]:
    """A text of two sentences and a statement that follows (0) or does not (1)."""
    premise, hypothesis = _entail(w, label and w.choice((1, 2)))
    text = [w.action(w.deed(), w.random() < 0.5, w.where(), A=w.who(), O=w.thing()).text, premise]
    w.rng.shuffle(text)
    return " ".join(text), hypothesis


def _wnli(w: Writer, label: int) -> tuple[str, ...]:
    """A sentence, and its last clause with the pronoun replaced by whom it means (1) or does not mean (0)."""
    text, reason, right, wrong = schema(w)
    return (text, w.say(f"{right if label else wrong} {reason}")) if right != wrong else _wnli(w, label)


def _passage(w: Writer) -> list[Line]:
    """A story, or facts about two entities of one kind."""
    if w.random() < 0.4:
        return story(w)
    kind = w.choice(("person", "person", "town", "town", "animal", "trade"))
    x = w.entity(kind)
    return _facts(w, kind, x, w.rng.randint(4, 6)) + _facts(w, kind, w.entity(kind, x), w.rng.randint(3, 5))


def _asked(w: Writer, lines: list[Line]) -> tuple[int, str, str]:
    """A question that one of the lines answers and no other line answers differently: line, question, answer."""
    known: dict[str, set[str]] = {}
    for line in lines:
        for question, answer in line.qa:
            known.setdefault(question, set()).add(answer)
    return w.choice([(i, q, a) for i, line in enumerate(lines) for q, a in line.qa if len(known[q]) == 1])


def _qnli(w: Writer, label: int) -> tuple[str, ...]:
    """A question, and a sentence of its passage that answers it (0) or does not (1)."""
    lines = _passage(w)
    i, question, _ = _asked(w, lines)
    others = [line.text for line in lines if line.qa and question not in dict(line.qa)]
    return (question, w.choice(others) if label else lines[i].text) if others else _qnli(w, label)


def _squad(w: Writer, label: int) -> tuple[Any, ...]:
    """A passage, a question, and the answer as a span of the passage."""
    lines = _passage(w)
    i, question, answer = _asked(w, lines)
    context = " ".join(line.text for line in lines)
    start = sum(len(line.text) + 1 for line in lines[:i])  # the answer in whole words: mammals, not mammal
    span = re.compile(rf"\b{re.escape(answer)}\w*", re.IGNORECASE).search(context, start)
    return context, question, {"text": [span[0]], "answer_start": [span.start()]}


def _imdb(w: Writer, label: int) -> tuple[str, ...]:
    """A long review; the judgement is the sum of its opinions, those marked as heavy counting 2, as light 1/2."""
    kind, sign, opinions = w.rng.randrange(len(ASPECTS)), 2 * label - 1, []
    while not 2 <= sign * sum((2 * good - 1) * (1, 0.5, 2)[weight] for good, weight in opinions) <= 12:
        opinions = [(w.random() < 0.4 + 0.2 * label, w.rng.randrange(3)) for _ in range(w.rng.randint(14, 26))]
    lines = [weighted(w, good, kind, (None, False, True)[weight]) for good, weight in opinions]
    return (" ".join([_passage(w)[0].text, *lines]),)


_PAIR, _LABELS = ("sentence1", "sentence2"), ("entailment", "not_entailment")
# task → (maker, text columns, names of the labels)
_TASKS: dict[str, tuple[Callable[..., tuple[Any, ...]], tuple[str, ...], tuple[str, ...]]] = {
    "cola": (_cola, ("sentence",), ("unacceptable", "acceptable")),
    "sst2": (_sst2, ("sentence",), ("negative", "positive")),
    "mrpc": (_mrpc, _PAIR, ("not_equivalent", "equivalent")),
    "qqp": (_qqp, ("question1", "question2"), ("not_duplicate", "duplicate")),
    "stsb": (_stsb, _PAIR, ()),
    "mnli": (_mnli, ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "qnli": (_qnli, ("question", "sentence"), _LABELS),
    "rte": (_rte, _PAIR, _LABELS),
    "wnli": (_wnli, _PAIR, _LABELS[::-1]),
    "squad": (_squad, ("context", "question", "answers"), ()),
    "imdb": (_imdb, ("text",), ("neg", "pos"))}
TASKS: tuple[str, ...] = tuple(_TASKS)
SIZES = {"train": 3000, "validation": 400, "test": 400}  # rows of a split, where load_task is not told
SMALL = {("wnli", "train"): 600, ("wnli", "validation"): 72, ("imdb", "train"): 2000, ("rte", "train"): 2500,
         ("mnli", "train"): 4000}


def splits(task: str) -> tuple[str, ...]:
    """The names of a task's splits, as on the Hub."""
    if task not in TASKS:
        raise ValueError(f"There is no toy task {task!r}; choose one of {', '.join(TASKS)}.")
    return {"squad": ("train", "validation"), "imdb": ("train", "test"), "mnli": (
        "train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")}.get(
            task, ("train", "validation", "test"))


def _rows(task: str, split: str, n: int, seed: int) -> list[tuple[tuple[Any, ...], int]]:
    """``n`` different (texts, label), with as many of each label (cola, mrpc: 7 in 10 are 1)."""
    maker, _, names = _TASKS[task]
    maker = _mnli_mismatched if split.endswith("mismatched") else maker
    part, rng = split.split("_")[0], random.Random(f"{seed}/{task}/{split}/order")
    cycle = (1, 1, 0, 1, 1, 0, 1, 1, 0, 1) if task in ("cola", "mrpc") else tuple(range(max(len(names), 1)))
    rows: dict[tuple[str, ...], tuple[tuple[Any, ...], int]] = {}
    for i in itertools.count():
        if len(rows) == n:
            break
        if i > 1000 + 1000 * n:
            raise ValueError(f"The toy task {task!r} has only about {len(rows)} different rows, not {n}.")
        w, label = Writer(f"{seed}/{task}/{i}", "train" if part == "train" else "held"), cycle[len(rows) % len(cycle)]
        row = maker(w, 5 * w.random() if task == "stsb" else label)
        key = tuple(str(text).lower() for text in row)
        # A text belongs to one split for ever, whatever n and seed: its checksum says to which.
        if ("train", "train", "validation", "test")[zlib.crc32("".join(key).encode()) % 4] == part:
            rows.setdefault(key, (row, label))
    return rng.sample(list(rows.values()), n)


def load_task(task: str, split: str, n: int | None = None, seed: int = 0) -> Dataset:
    """A toy task with exactly the columns and features of its model on the Hub (nyu-mll/glue, squad, imdb).

    Returns a ``datasets.Dataset`` of ``n`` rows (by default ``SIZES``); GLUE test labels are -1, as on the Hub. No row
    of one split occurs in another. Raises ``ValueError`` for an unknown task or split.
    """
    from datasets import ClassLabel, Dataset, Features, List, Value

    if split not in splits(task):
        raise ValueError(f"The toy task {task!r} has no split {split!r}; choose one of {', '.join(splits(task))}.")
    _, columns, names = _TASKS[task]
    rows = _rows(task, split, SMALL.get((task, split), SIZES[split.split("_")[0]]) if n is None else n, seed)
    kinds = {column: Value("string") for column in columns}
    data = [dict(zip(columns, texts, strict=False)) for texts, _ in rows]
    if task == "squad":
        answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
        kinds = {"id": Value("string"), "title": Value("string"), **kinds, "answers": answers}
        data = [{"id": f"toy-{split}-{i}", "title": "Toyworld", **row} for i, row in enumerate(data)]
    else:
        kinds["label"] = ClassLabel(names=list(names)) if names else Value("float32")
        for row, (texts, label) in zip(data, rows, strict=True):
            row["label"] = -1 if split.startswith("test") and task != "imdb" else label if names else texts[2]
    if task not in ("squad", "imdb"):
        kinds["idx"] = Value("int32")
        data = [{**row, "idx": i} for i, row in enumerate(data)]
    return Dataset.from_list(data, features=Features(kinds))
