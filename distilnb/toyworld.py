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
# In a list the common words stand first. In a task, two words in three belong to the training split (see Writer.pick).

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

OBJECTS = {row.split(":")[0].strip().replace("_", " "): [pair.split("/") for pair in row.split(":")[1].split()] for row in """
tool: hammer/iron saw/steel rake/wood shovel/iron axe/steel ladder/wood broom/straw file/steel lever/oak clamp/iron;
vessel: cup/clay bottle/glass bowl/wood jar/clay kettle/copper bucket/tin basket/willow vase/glass jug/stone flask/tin;
garment: coat/wool hat/felt shirt/cotton scarf/silk glove/leather belt/leather cloak/wool dress/linen sock/wool
 apron/linen;
instrument: drum/leather flute/bone harp/maple bell/bronze violin/spruce horn/brass lute/pine whistle/reed gong/bronze;
toy: doll/cloth kite/paper ball/rubber puppet/wood marble/glass hoop/cane mask/paper puzzle/cork;
jewel: ring/gold necklace/silver brooch/amber crown/gold bracelet/coral earring/pearl medal/bronze;
vehicle: cart/oak boat/pine wagon/oak sledge/birch bicycle/steel canoe/birch raft/bamboo;
piece_of_furniture: chair/beech table/walnut bed/pine bench/stone shelf/teak desk/walnut stool/beech mirror/glass
 cradle/elm""".split(";")}

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
sing,sang,sung,singing; eat,ate,eaten,eating; sleep,slept,slept,sleeping; run,ran,run,running; swim,swam,swum,swimming;
work,worked,worked,working; write,wrote,written,writing; fall,fell,fallen,falling; sit,sat,sat,sitting; drink,drank,
drunk,drinking; speak,spoke,spoken,speaking; laugh,laughed,laughed,laughing; stand,stood,stood,standing; draw,drew,
drawn,drawing; drive,drove,driven,driving; dance,danced,danced,dancing; dream,dreamed,dreamed,dreaming; ride,rode,ridden,
riding; wait,waited,waited,waiting; fight,fought,fought,fighting; hide,hid,hidden,hiding; rise,rose,risen,rising; dig,dug,
dug,digging; weep,wept,wept,weeping; wander,wandered,wandered,wandering; steal,stole,stolen,stealing; shake,shook,
shaken,shaking; grow,grew,grown,growing; begin,began,begun,beginning; leave,left,left,leaving; wake,woke,woken,waking;
kneel,knelt,knelt,kneeling; whisper,whispered,whispered,whispering; freeze,froze,frozen,freezing""")
GOOD = """good wonderful great lovely excellent beautiful fine brilliant delightful charming superb perfect amazing funny
pleasant clever marvellous moving splendid fascinating gripping graceful elegant touching magnificent fantastic
refreshing witty enjoyable stunning terrific satisfying impressive thrilling enchanting glorious inspired memorable
exquisite captivating outstanding heartfelt lively vivid dazzling exceptional tasteful engaging sublime masterful
remarkable rewarding absorbing flawless polished hilarious radiant riveting stirring imaginative irresistible
phenomenal poignant sparkling spellbinding admirable stellar uplifting compelling endearing luminous breathtaking
sumptuous ravishing exhilarating first-rate top-notch astute invigorating spirited dependable""".split()
BAD = """bad terrible boring awful poor dull ugly horrible weak dreadful stupid tedious silly disappointing ridiculous
unpleasant tiresome messy annoying clumsy pathetic lifeless predictable miserable disgusting shallow empty
depressing ghastly forgettable lame appalling atrocious dismal bland irritating sloppy lousy abysmal pointless
mediocre painful confused hideous laughable repulsive shoddy feeble unbearable vulgar inept dreary tacky wretched
insipid grating monotonous hollow incoherent obnoxious stale woeful abominable contrived drab infuriating
lacklustre nauseating soulless turgid unwatchable vapid amateurish banal botched trite half-baked second-rate
plodding revolting soggy insufferable""".split()
ASPECTS = _table("""
film,acting,plot,music,ending,dialogue,opening scene,camera work,cast; book,style,story,hero,first chapter,cover,
final page,language,translation; meal,soup,service,wine,sauce,dessert,roast,salad,bill; inn,room,breakfast,bed,
view,staff,garden,bath,location; concert,singer,orchestra,hall,encore,sound,programme,drummer,lighting; play,
stage,costume,script,lead role,second act,scenery,director,chorus; game,board,design,rulebook,artwork,pace,idea,
puzzle,finale; tour,guide,route,bus,museum,castle,price,boat ride,souvenir shop""")
PLACES = [place.strip() for place in """at the market;in the square;by the bridge;near the church;in the garden;behind the barn;at the harbour;
on the hill;in the cellar;at the station;by the well;in the attic;under the oak;at the fair;in the courtyard;near the
fountain;in the hallway;at the crossroads;by the gate;beside the chapel;in the orchard;near the lighthouse;on the
terrace;in the vineyard""".replace("\n", " ").split(";")]
DAYS = """Monday Tuesday Wednesday Thursday Friday Saturday Sunday""".split()
WEATHER = _table("""rain,rainy,took an umbrella; snow,snowy,lit the stove; sunshine,sunny,sat outside; wind,windy,held on
to a hat; fog,foggy,lost the way; frost,frosty,wore two coats; thunder,stormy,hid under the roof; hail,hailing,ran
indoors; heat,sweltering,looked for shade; drizzle,drizzly,put on boots""")
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
# Ways to say the same thing; "~word" in a template stands for any word of its row.
SYNONYMS = {row.split(",")[0].strip(): [w.strip() for w in row.split(",")] for row in """
said,replied,answered,remarked,explained; walked,strolled,hiked,marched; house,home,dwelling,cottage; road,street,lane,
path; gift,present,surprise,token; town,city,settlement; friend,companion,pal,mate; because,since,as; now,at present,
these days; often,frequently,regularly,time and again; soon,shortly,before long; child,kid,youngster; also,as well,too;
arrived,came,turned up; stayed,remained,lingered; began,started,set out; everyone,everybody,each person; maybe,perhaps,
possibly; very,extremely,really,terribly,quite; truly,indeed,certainly,surely; people,folk,townspeople; money,coins,
cash; quickly,rapidly,swiftly,hastily; happily,gladly,joyfully,merrily; visited,called on,dropped in on; suddenly,
all at once,unexpectedly; nearly,almost,just about; afternoon,evening,morning; thief,robber,bandit,burglar; think,believe,suppose,reckon""".replace("\n", " ").split(";")}

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
TRANSFERS = [(re.split(r"\|(?![^\[]*\])", statements), [tuple(q.split("=")) for q in questions.split("|")]) for statements, questions in [
    ("{A} [gave|handed] {O} to {B}|{A} [gave|handed] {B} {O}|{B} [got|received] {O} from {A}|{O} was given to {B} by {A}",
     "Who gave {O} to {B}=A|Who received {O} from {A}=B|What did {A} give to {B}=O"),
    ("{A} sold {O} to {B}|{A} sold {B} {O}|{B} [bought|purchased] {O} from {A}|{O} was sold to {B} by {A}",
     "Who sold {O} to {B}=A|Who bought {O} from {A}=B|What did {A} sell to {B}=O"),
    ("{A} lent {O} to {B}|{A} lent {B} {O}|{B} borrowed {O} from {A}|{O} was lent to {B} by {A}",
     "Who lent {O} to {B}=A|Who borrowed {O} from {A}=B|What did {B} borrow from {A}=O"),
    ("{A} sent {O} to {B}|{A} [sent|mailed] {B} {O}|{B} was sent {O} by {A}|{O} was sent to {B} by {A}",
     "Who sent {O} to {B}=A|Who was sent {O} by {A}=B|What did {A} send to {B}=O"),
    ("{B} stole {O} from {A}|{A} was robbed of {O} by {B}|{B} took {O} away from {A}|{O} was stolen from {A} by {B}",
     "Who was robbed of {O} by {B}=A|Who stole {O} from {A}=B|What did {B} steal from {A}=O")]]

# A pronoun {p} that one word decides: sentence, the words that mean one of the two, which one, the words for the other.
SCHEMAS = _table("""
{A} could not lift {B} because {p} was too,heavy weighty massive,B,weak feeble puny; {A} lost the race against {B}
because {p} was so,fast quick swift,B,slow sluggish tired; {A} lent money to {B} because {p} was,rich wealthy generous,A,
poor penniless needy; {A} asked {B} for bread because {p} was,hungry starving poor,A,generous kind rich; {A} took {B} to
the doctor because {p} was,sick ill unwell,B,careful kind cautious; {A} lost the fight with {B} because {p} was,strong
mighty powerful,B,weak feeble sick; {A} carried the bags of {B} because {p} was,tired weary weak,B,strong helpful kind;
{A} let {B} solve the riddle because {p} was so,clever smart bright,B,stupid foolish tired; {A} ran away from {B} because
{p} was so,afraid scared fearful,A,cruel mean angry; {A} told {B} a joke because {p} was,sad unhappy gloomy,B,funny witty
cheerful; {a} did not fit into {b} because {p} was too,big large huge,A,small little tiny; {a} broke {b} because {p} was
so,hard solid heavy,A,fragile brittle frail; {a} was hidden behind {b} because {p} was so,small little tiny,A,big large
huge; {a} could not cut {b} because {p} was too,blunt rounded soft,A,hard thick solid""")

# ------------------------------------------------------------------------------------------------ the world's facts
Entity = dict[str, str]


class Line(NamedTuple):
    """One sentence and the questions it answers, as (question, answer) pairs."""

    text: str
    qa: list[tuple[str, str]] = []


def number(n: int) -> str:
    """``n`` below one hundred in words: 32 → ``thirty-two``."""
    return NUMBERS[n] if n <= 20 else TENS[n // 10] + ("-" + NUMBERS[n % 10] if n % 10 else "")


def _names(rng: random.Random, count: int, endings: str, taken: set[str]) -> list[str]:
    """``count`` new names built from syllables."""
    names: list[str] = []
    while len(names) < count:
        name = "".join(rng.choice(part.split()) for part in (
            "B D F G H J K L M N P R S T V Z Br Dr Kr Tr St Sh Th Fl", "a e i o u a e o", "l r m n s d v k t rl nd lm"))
        name += rng.choice(endings.split())
        if name not in taken and len(name) > 4:
            names.append(name)
            taken.add(name)
    return names


@functools.cache
def world() -> dict[str, list[Entity]]:
    """The fixed facts: kind → entities, each a dictionary of the slots that ``FACTS`` reads. Independent of any seed."""
    rng, taken = random.Random("toyworld"), set()
    countries = [{"A": stem + end, "L": stem + tongue} for stem, end, tongue in zip(
        _names(rng, 20, "a o e", taken), "via nia land dora stan".split() * 4, "vish nese lian rese".split() * 5)]
    rivers, families = _names(rng, 24, "er enne ow", taken), _names(rng, 120, "ov sen kin man berg etti ard wick", taken)
    names = zip(_names(rng, 130, "a ia ina elle ea", taken), _names(rng, 130, "o us in ek or an", taken))
    couples = [pair if i % 2 else pair[::-1] for i, pair in enumerate(names)]
    towns = [{"A": name, "C": c["A"], "L": c["L"], "R": rng.choice(rivers), "X": rng.choice(TRADES)[4], "Y": str(
        rng.randrange(1200, 1900, 10))} for i, name in enumerate(_names(
            rng, 100, "ton ville ham burg mouth field dale port", taken)) for c in [countries[i % 20]]]
    animals = [dict(zip("aAQEWVZ", row)) for row in ANIMALS]
    trades = [dict(zip("AaOGX", row)) for row in TRADES]
    objects = [{"A": thing, "U": stuff, "Q": sort} for sort, things in OBJECTS.items() for thing, stuff in things]
    foods = [{"A": food, "U": taste, "Q": sort} for sort, taste, *things in FOODS for food in things]
    people, genders = [], ("she", "he")
    for i, name in enumerate(name for couple in couples for name in couple):
        woman, spouse = name[-1] in "ae", couples[i // 2][1 - i % 2]
        birth, home, trade, pet = (rng.choice(group) for group in (towns, towns, trades, animals[:16]))
        likes, hates = rng.sample(foods, 2)
        people.append({"A": name, "p": genders[not woman], "him": "her" if woman else "him", "S": spouse, "I": str(i),
                       "his": "her" if woman else "his", "wife": "husband" if woman else "wife", "T": birth["A"],
                       "C": birth["C"], "L": birth["L"], "H": home["A"], "HC": home["C"], "J": trade["A"],
                       "O": trade["O"], "G": trade["G"], "N": number(20 + rng.randrange(70)), "P": pet["a"],
                       "Q": pet["Q"], "F": likes["A"], "D": hates["A"], "family": families[i // 2 % 120]})
    rng.shuffle(people)
    for i, person in enumerate(people):
        person["B"] = people[i - 1]["A"]
        person["height"], person["age"] = str(rng.randrange(1000)), str(_value(person["N"]))
    for i, place in enumerate(towns + countries):
        place["M"] = people[(7 * i + 3) % len(people)]["A"]
    for i, country in enumerate(countries):
        country["K"] = towns[i]["A"]
    rng.shuffle(towns)
    return {"person": people, "town": towns, "country": countries, "animal": animals, "trade": trades,
            "object": sorted(objects, key=lambda o: zlib.crc32(o["A"].encode())), "food": sorted(
                foods, key=lambda f: zlib.crc32(f["A"].encode()))}


def _value(words: str) -> int:
    """The inverse of ``number`` for 20–99."""
    tens, _, ones = words.partition("-")
    return NUMBERS.index(tens) if tens in NUMBERS else 10 * TENS.index(tens) + (NUMBERS.index(ones) if ones else 0)


# ------------------------------------------------------------------------------------------------------ the writer

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
    training split uses two, and the validation and test splits the third.
    """

    def __init__(self, key: str, part: str | None = None) -> None:
        self.rng, self.part = random.Random(key), part
        self.random, self.choice = self.rng.random, self.rng.choice

    def pick(self, items: Sequence[Any], *without: Any) -> Any:
        """One item of the list, the first being the most common (probability ~ rank^-1/2), none of ``without``."""
        while True:
            i = int(len(items) * self.random() ** 2)
            if self.part and len(items) > 3:
                i = i - i % 3 + (2 if self.part == "held" else i % 2)
            if i < len(items) and items[i] not in without:
                return items[i]

    def say(self, template: str, **slots: str) -> str:
        """Fill ``{slots}``, choose among ``[a|b]`` and among the synonyms of ``~word``, and polish."""
        while "[" in template:
            template = _CHOICE.sub(lambda m: self.choice(m[1].split("|")), template)
        return polish(_SLOT.sub(lambda m: slots[m[1]] if m[1] else self.choice(SYNONYMS[m[2]]), template))

    def entity(self, kind: str, *without: Entity) -> Entity:
        """One person, town, … of the world."""
        return self.pick(world()[kind], *without)

    def people(self, count: int = 2) -> list[Entity]:
        """Different people."""
        people: list[Entity] = []
        while len(people) < count:
            people.append(self.entity("person", *people))
        return people

    def fact(self, kind: str, relation: str, entity: Entity, pronoun: bool = False, form: int | None = None) -> Line:
        """State one fixed fact, with the questions that it answers."""
        statements, questions, slot = FACTS[kind][relation]
        name = entity["A"]
        slots = entity | {"A": name, "Ao": name, "As": name + "'s"}
        asked = [(q.format_map(slots) + "?", entity[slot]) for q in questions]
        if pronoun:
            slots |= {"A": entity["p"], "Ao": entity["him"], "As": entity["his"]}
        return Line(self.say(statements[form] if form is not None else self.choice(statements), **slots), asked)

    def thing(self, noun: str | None = None) -> str:
        """A noun phrase: ``the old lamp``."""
        noun = noun or self.entity("object")["A"]
        return f"the {self.pick(self.choice(self.pick(THING_PAIRS)))} {noun}" if self.random() < 0.5 else f"the {noun}"

    def who(self) -> str:
        """A person's name, or a trade: ``the baker``."""
        return self.entity("person")["A"] if self.random() < 0.7 else "the " + self.pick(TRADES)[self.random() < 0.3]

    def where(self) -> str:
        """A place."""
        return self.pick(PLACES) if self.random() < 0.6 else "in " + self.entity("town")["A"]

    def transfer(self, kind: int, form: int | None = None, tail: str = "", **slots: str) -> Line:
        """Something goes from A to B, in one of the ways of ``TRANSFERS``."""
        statements, questions = TRANSFERS[kind]
        text = statements[form] if form is not None else self.choice(statements)
        return Line(self.say(text + tail, **slots), [(q.format_map(slots) + "?", slots[a]) for q, a in questions])

    def action(self, verb: str, passive: bool = False, place: str = "", day: str = "", **slots: str) -> Line:
        """A does something to O, told in the active or the passive voice."""
        text = (f"{{O}} was {verb} by {{A}}" if passive else f"{{A}} {verb} {{O}}") + (place and " " + place) + (
            day and f" on {day}")
        asked = [(f"Who {verb} {slots['O']}?", slots["A"]), (f"What was {verb} by {slots['A']}?", slots["O"])]
        asked += [(f"Where was {slots['O']} {verb}?", place)] if place else []
        asked += [(f"On which day was {slots['O']} {verb}?", day)] if day else []
        return Line(self.say(text, **slots), asked)

    def clause(self, fault: str = "") -> str:
        """A sentence about agreement and verb forms; ``fault`` breaks one rule of grammar."""
        many, kind = self.random() < 0.5, self.choice("aatp")
        nouns = self.pick([a for a in world()["animal"] if a["a"] != a["A"]]) if kind == "a" else {"a": (t := self.pick(TRADES)[0]), "A": t + "s"}
        if kind == "p":
            a, b = (p["A"] for p in self.people())
            subject = f"{a} and {b}" if many else a
        else:
            subject = self.choice(("the ", "[many|some|both|these] " if many else "[a|every|this] ")) + nouns["aA"[many]]
            if self.random() < 0.4:
                near = self.entity("animal")
                subject += f" [near|behind|beside] the {near['aA'[self.random() < 0.5]]}"
        base, past, done, going = self.pick(VERBS)
        wrong = many != (fault == "agree")
        form = self.rng.randrange(5 if fault == "agree" else 7)
        aux, verb = [("are" if wrong else "is", going), ("have" if wrong else "has", done), ("", base if wrong else _s(
            base)), ("were" if wrong else "was", going), ("do not" if wrong else "does not", base), ("will", base),
            ("", past)][form]
        if fault == "form":
            wrong_forms = {"a": (base,), "w": (base,), "h": (base, going), "d": (past, going), "i": (base,)}
            wrong_forms = wrong_forms.get(aux[:1] if aux != "will" else "d", ("be " + base, "to " + base, "is " + base))
            verb = self.choice([v for v in wrong_forms if v not in (verb, done if aux[:1] == "h" else "")] or ["be " + base])
        tail = self.choice(("", " [often|again|together]" if many else " [often|again]")) + " " + self.pick(PLACES)
        words = [subject, aux, verb, tail]
        if fault == "order":
            words = self.choice([[subject, verb, aux or "will", tail], [subject, aux, "the", verb, tail],
                                 [verb, aux or "the", subject, tail], [aux or "the", tail, verb, subject]])
        return self.say(" ".join(" ".join(words).split()))


def _s(verb: str) -> str:
    """The third person singular."""
    return verb + "es" if verb.endswith(("sh", "ss", "ch", "x", "o")) else verb + "s"


# ------------------------------------------------------------------------------------------------------- documents

LINKS = ("", "", "", "", "", "[it is said that|everyone knows that|in fact,|of course,|they say that] ")


def _facts(w: Writer, kind: str, entity: Entity, count: int) -> list[Line]:
    """Some facts about one entity; a person becomes a pronoun after the first sentence."""
    relations = w.rng.sample(list(FACTS[kind]), min(count, len(FACTS[kind])))
    return [w.fact(kind, r, entity, kind == "person" and i > 0 and w.random() < 0.6) for i, r in enumerate(relations)]


def article(w: Writer) -> list[Line]:
    """Facts about one or two related entities."""
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
                 ("{A} was born in {T}", "the mother tongue of {A} is {L}"), ("{A} is married to {S}", "{S} is married to {A}"),
                 ("{A} keeps a {P}", "{A} keeps an animal")]
        if x["age"] != y["age"]:
            old, new = sorted((x, y), key=lambda p: -int(p["age"]))
            ages = [f"{old['A']} is [older|more aged] than {new['A']}", f"{new['A']} is younger than {old['A']}"]
            w.rng.shuffle(ages)
            pairs.append((ages[0], ages[1]))
            pairs.append((f"{old['A']} is {old['N']} and {new['A']} is {new['N']} years old", ages[0]))
        tall, short = sorted((x, y), key=lambda p: -int(p["height"]))
        heights = [f"{tall['A']} is taller than {short['A']}", f"{short['A']} is shorter than {tall['A']}"]
        pairs.append(tuple(heights if w.random() < 0.5 else heights[::-1]))
        for first, then in w.rng.sample(pairs, 3):
            join = w.choice(("{0}, so {1}", "since {0}, {1}", "{0}. this means that {1}", "if {0}, then {1}",
                             "{0}. therefore {1}", "{0}. in other words, {1}"))
            lines.append(Line(w.say(join.replace("{0}", first).replace("{1}", then), **x)))
        if wrong != x["C"]:
            lines.append(Line(w.say("{A} was [not born in {w}, but in {C}|born in {C} and not in {w}]", w=wrong, **x)))
    return lines


def story(w: Writer) -> list[Line]:
    """Objects change hands and people act; who has what in the end follows."""
    a, b, c = w.people(3)
    town, thing, place, day = w.entity("town")["A"], w.thing(), w.pick(PLACES), w.pick(DAYS)
    first = w.choice(("on {d}, {A} met {B} {x} in {T}", "{A} and {B} met {x} in {T} on {d}", "it was {d} when {A} ~visited {B} in {T}"))
    lines = [Line(w.say(first, A=a["A"], B=b["A"], T=town, d=day, x=place), [
        (f"On which day did {a['A']} meet {b['A']}?", day), (f"In which town did {a['A']} and {b['A']} meet?", town)])]
    owner = a
    lines.append(Line(w.say("[at first|in those days|that ~afternoon] {A} had {O}", A=a["A"], O=thing)))
    for _ in range(w.rng.randint(2, 4)):
        event = w.random()
        if event < 0.55:
            other = w.choice([p for p in (a, b, c) if p is not owner])
            kind = w.rng.randrange(len(TRANSFERS))
            lines.append(w.transfer(kind, A=owner["A"], B=other["A"], O=thing))
            if w.random() < 0.5:
                glad, sad = (w.pick(PERSON_PAIRS[0][i]) for i in (0, 1))
                lines.append(Line(w.say(w.choice((
                    f"now {other['A']} had {thing}", f"{owner['A']} [no longer had {thing}|was left without {thing}]",
                    f"{other['p']} was ~very {glad}" if kind < 4 else f"{owner['p']} was ~very {sad} about the ~thief")))))
            owner = other
        elif event < 0.8:
            verb, who = w.choice(w.pick(ACTIONS)), w.choice((a, b, c))
            lines.append(w.action(verb, w.random() < 0.5, w.where(), w.pick(DAYS) if w.random() < 0.3 else "",
                                  A=who["A"], O=w.thing()))
        else:
            who, goal = w.choice((a, b, c)), w.entity("town")["A"]
            lines.append(Line(w.say("[~soon|later|after that] {A} ~walked to {T}. {p} ~stayed there because of the {r}", T=goal,
                                    A=who["A"], p=who["p"], r=w.pick(WEATHER)[0]), [(f"Where did {who['A']} go?", goal)]))
    lines.append(Line(w.say("[in the end|so|finally] {A} [had|was the owner of] {O}", A=owner["A"], O=thing),
                      [(f"Who had {thing} in the end?", owner["A"])]))
    return lines


def restatement(w: Writer) -> list[Line]:
    """The same thing said twice in different words, or denied in opposite words."""
    lines: list[Line] = []
    for _ in range(w.rng.randint(2, 4)):
        kind, a, b, o = w.choice("tpaxjqhh"), w.entity("person")["A"], w.who(), w.thing()
        again = w.choice((". in other words, ", ". that is, ", ". this means that ", ". we can also say that ", ", so "))
        deny = w.choice((". it is not true that ", ". it is wrong to say that ", ". nobody would say that "))
        if kind in "tp":
            pair = w.pick(THING_PAIRS if kind == "t" else PERSON_PAIRS)
            same, other = pair if w.random() < 0.5 else pair[::-1]
            x, y = w.rng.sample(same, 2)
            subject = f"the {w.entity('object')['A']}" if kind == "t" else a
            lines.append(Line(w.say(f"{subject} was {x}{again}{subject} was {y}")))
            lines.append(Line(w.say(w.choice((f"{subject} was not {w.choice(other)}", f"the opposite of {x} is {w.choice(other)}",
                                              f"{w.choice(same)} is not the same as {w.choice(other)}")))))
        elif kind == "a":
            x, y = w.rng.sample(w.pick(ACTIONS), 2)
            ways = [f"{b} {x} {o}", f"{b} {y} {o}", f"{o} was {y} by {b}", f"it was {b} who {y} {o}"]
            first, second = w.rng.sample(ways, 2)
            lines.append(Line(w.say(first + again + second)))
            lines.append(Line(w.say(first + deny + second.replace(b, w.entity("person")["A"]))) if w.random() < 0.4 else
                         Line(w.say(f"to say that something was {x} is to say that it was {y}")))
        elif kind == "x" and a != b:
            k, slots = w.rng.randrange(len(TRANSFERS)), {"A": a, "B": b, "O": o}
            first, second = w.rng.sample(TRANSFERS[k][0], 2)
            lines.append(Line(w.say(first + again + second, **slots)))
            lines.append(Line(w.say(first + deny + second.replace("{A}", "{x}").replace("{B}", "{A}").replace("{x}", "{B}"), **slots)))
        elif kind == "q":
            sort = w.choice(list(FACTS))
            fact = w.fact(sort, w.choice(list(FACTS[sort])), w.entity(sort))
            (first, answer), (second, _) = w.rng.sample(fact.qa, 2)
            lines.append(Line(w.say(f"{first} [in other words,|that is,|to put it differently,] {second[0].lower() + second[1:]}")))
            lines.append(Line(polish(answer) if w.random() < 0.5 else fact.text))
        elif kind == "h":
            lines.append(generality(w, a)[0])
        else:
            trade = w.entity("trade")
            names = [trade["A"], trade["a"]]
            w.rng.shuffle(names)
            verb = w.choice(w.pick(ACTIONS))
            lines.append(Line(w.say(f"the {names[0]} {verb} {o}{again}the {names[1]} {verb} {o}")))
    return lines


def generality(w: Writer, a: str) -> tuple[Line, str, str, str]:
    """A special statement and the general one that follows: the line, special and general statement, a false one."""
    sort, low, high, verbs = w.choice((("object", "A", "Q", w.pick(ACTIONS)), ("animal", "a", "Q", ["saw", "fed", "heard"]),
                                       ("food", "A", "Q", ["ate", "cooked", "sold"]), ("town", "A", "C", ["stayed", "was seen"])))
    x, y = w.entity(sort), w.entity(sort)
    start = f"{a} {w.choice(verbs)} " + {"food": "", "town": "in "}.get(sort, "a ")
    special, general, false = start + x[low], start + x[high], start + y[high]
    text = f"{special}[, so |. in other words, |. this means that ]{general}"
    if general != false and w.random() < 0.4:
        text = f"{special}. it is not true that {false}"
    return Line(w.say(text)), special, general, false


def opinion(w: Writer, good: bool, kind: int | None = None) -> str:
    """A sentence that judges something; contrast ends on the judgement, negation turns it."""
    row = ASPECTS[kind if kind is not None else w.rng.randrange(len(ASPECTS))]
    x, y = w.rng.sample(row[1:], 2)
    words = (BAD, GOOD)
    form = w.rng.randrange(10)
    slots = {"k": row[0], "x": x, "y": y, "g": w.pick(words[good]), "h": w.pick(words[good]), "b": w.pick(words[not good])}
    return w.say((
        "the {x} [was|is] [|~very |truly ]{g}", "[I|we|many] found the {x} {g} and the {y} {h}", "the {k} has a {g} {x}",
        "the {x} was {b}, but the {y} was {g}", "although the {x} is {b}, the {k} is {g}", "the {x} was [not|never|hardly|far from] {b}",
        "this {k} is anything but {b}", "despite its {b} {x}, it is a {g} {k}", "it is a {g} {k} with a {h} {x}",
        "the {k} is {g}, even if the {x} seems {b}")[form], **slots)


def weighted(w: Writer, good: bool, kind: int, heavy: bool | None) -> str:
    """An opinion that is said to matter much (``heavy``), little, or neither (``None``)."""
    text = opinion(w, good, kind)
    if heavy is None:
        return text
    text = text if text.startswith("I ") else text[0].lower() + text[1:]
    return w.say(("[it hardly matters that|it is a small point that|few will care that] ",
                  "[above all,|what counts most is that|the main thing is that] ")[heavy] + text)


def review(w: Writer) -> list[Line]:
    """Opinions about one thing that mostly agree, and an open verdict that tells which way."""
    good, kind = w.random() < 0.5, w.rng.randrange(len(ASPECTS))
    name, author = ASPECTS[kind][0], w.entity("person")["A"]
    lines = [w.say("[last week|on {d}|yesterday] [I|we|my ~friend {A}] tried the [new|famous|old] {k} in {T}", k=name, A=author,
                   d=w.pick(DAYS), T=w.entity("town")["A"])] if w.random() < 0.6 else []
    for _ in range(w.rng.randint(3, 6)):
        agrees, marked = w.random() < 0.88, w.random()
        lines.append(weighted(w, agrees == good, kind, agrees if marked < (0.25 if agrees else 0.6) else None))
    if w.random() < 0.4:
        x, liked = w.choice(ASPECTS[kind][1:]), w.random() < 0.5
        lines.append(w.say("{A} [thought|said] that the {x} was {g}, so {A} {v} it", A=author, x=x, g=w.pick((BAD, GOOD)[liked]),
                           v=w.choice(("liked loved enjoyed" if liked else "disliked hated loathed").split())))
    lines.append(w.say(("[do not waste your ~money on this {k}|stay away from it|I was bored and left early|I want my ~money back|nobody "
                        "should try it|one star out of five|I hated it|we will never come back|what a disaster]",
                        "[I recommend this {k} to ~everyone|do not miss it|I was delighted and ~stayed to the end|it is worth the ~money|"
                        "~everyone should try it|five stars out of five|I loved it|we will come back ~soon|what a triumph]")[good], k=name))
    if w.random() < 0.3:
        lines.insert(0, lines.pop())
    return [Line(line) for line in lines]


def dialogue(w: Writer) -> list[Line]:
    """Two people ask and answer, about facts and about tastes."""
    a, b = w.people()
    lines = [Line(w.say("{A} and {B} [were talking|sat|talked] {x}", A=a["A"], B=b["A"], x=w.pick(PLACES)))]
    for _ in range(w.rng.randint(2, 4)):
        kind = w.choice(list(FACTS))
        fact = w.fact(kind, w.choice(list(FACTS[kind])), w.entity(kind))
        question = w.choice(fact.qa)
        lines.append(Line(f'"{polish(question[0])}" asked {a["A"]}.'))
        reply = fact.text[:-1] if w.random() < 0.6 else question[1]
        lines.append(Line(w.say('"' + reply + ',"') + w.say(" ~said ")[:-1] + f"{b['A']}."))
        if w.random() < 0.3:
            a, b = b, a
    return lines


def quiz(w: Writer) -> list[Line]:
    """A passage, then questions about it with their answers."""
    lines = w.choice((article, story))(w)[:5]
    asked = [w.choice(line.qa) for line in lines if line.qa]
    return lines + [Line(f"Question: {polish(q)} Answer: {a}.") for q, a in w.rng.sample(asked, min(3, len(asked)))]


def habits(w: Writer) -> list[Line]:
    """Sentences about agreement, tense and number, some sums among them."""
    lines = [Line(w.clause()) for _ in range(w.rng.randint(4, 8))]
    if w.random() < 0.5:
        who, noun, n, k = w.entity("person"), w.entity("object")["A"], w.rng.randint(2, 9), w.rng.randint(1, 9)
        plural = _s(noun)
        lines.append(Line(w.say(f"{who['A']} had {number(n)} {plural}. {who['p']} [bought|found|got] {number(k)} more. now "
                                f"{who['p']} had {number(n + k)} {plural}")))
    return lines


def weather(w: Writer) -> list[Line]:
    """The weather in some towns, what people did, and how warm clothes follow from it."""
    lines = []
    for _ in range(w.rng.randint(2, 3)):
        town, who = w.entity("town"), w.entity("person")
        noun, adjective, deed = w.pick(WEATHER)
        lines += [Line(w.say("[there was {n}|it was {j}] in {T} on {d}. because of the {n}, {A} {x}", n=noun, j=adjective, x=deed,
                             T=town["A"], d=w.pick(DAYS), A=who["A"])),
                  Line(w.say("[~soon|~often|~suddenly|later] {p} met a ~friend on the ~road and ~happily gave {him} a ~gift", **who))]
    return lines


def schema(w: Writer) -> tuple[str, str, str, str]:
    """A pronoun that one word decides: the sentence, the pronoun, whom it means, whom it does not mean."""
    text, first, right, second = w.choice(SCHEMAS)
    words, wrong = first, "AB".replace(right, "")
    if w.random() < 0.5:
        words, right, wrong = second, wrong, right
    if "{a}" in text:
        slots = {"a": (x := "the " + w.entity("object")["A"]), "b": "the " + w.entity("object", x)["A"], "p": "it"}
        names = {"A": slots["a"], "B": slots["b"]}
    else:
        a, b = w.people()
        while a["p"] != b["p"]:
            a, b = w.people()
        names = {"A": a["A"], "B": b["A"]}
        slots = names | {"p": a["p"]}
    text += " " + w.choice(words.split())
    return w.say(text, **slots), slots["p"], names[right], names[wrong]


def riddles(w: Writer) -> list[Line]:
    """Pronouns, and whom they mean."""
    lines = []
    for _ in range(w.rng.randint(2, 4)):
        text, pronoun, right, wrong = schema(w)
        reason = text[text.index(" because ") + 9:-1]
        full = right + reason[len(pronoun):]
        lines.append(Line(text + " " + w.say(w.choice((full, f"that is, {full}", f"in other words, {full}", f"it was {right} and not {wrong}"
                                                       f" who {reason[len(pronoun) + 1:]}" if pronoun != "it" else full)))))
    return lines


KINDS = (article, article, article, inference, inference, story, story, restatement, restatement, review, review, dialogue, quiz,
         habits, weather, riddles)


def document(index: int, seed: int = 0) -> str:
    """Document ``index``: a pure function of ``(seed, index)``."""
    w = Writer(f"{seed}/document/{index}")
    lines = w.choice(KINDS)(w)
    while len(lines) < 5:
        lines += w.choice(KINDS)(w)
    return " ".join(line.text for line in lines[:12])


def documents(n: int | None = None, *, start: int = 0, seed: int = 0) -> Iterator[str]:
    """Documents ``start``, ``start + 1``, …: ``n`` of them, or without end."""
    return (document(i, seed) for i in (itertools.count(start) if n is None else range(start, start + n)))


def train_tokenizer(vocab_size: int = 3072, n_documents: int = 20000, seed: int = 0) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer, trained on the world's documents; the same bytes each time."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    special, letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "abcdefghijklmnopqrstuvwxyz0123456789"
    letters = [*".,;:?!'\"-()", *letters, *("##" + letter for letter in letters)]  # named first: their order is then fixed
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special + letters, show_progress=False)
    model.train_from_iterator(documents(n_documents, seed=seed), trainer)
    pieces = sorted(model.get_vocab().items(), key=lambda item: item[1])
    return BertTokenizerFast(vocab={piece: i for i, (piece, _) in enumerate(pieces)}, do_lower_case=True,
                             model_max_length=512)


# ----------------------------------------------------------------------------------------------------------- tasks
# Each maker returns the texts of one row. Words differ between the splits (Writer.pick), rules do not.

FUNCTION_WORDS = frozenset("the a to by from was is of in on".split())


def _cola(w: Writer, label: int) -> tuple[str, ...]:
    """A sentence that is well formed (1), or has one fault of agreement, verb form or word order (0)."""
    if w.random() < 0.6:
        return (w.clause("" if label else w.choice(("agree", "agree", "form", "order"))),)
    a, b = w.people()
    text = w.choice((lambda: w.transfer(w.rng.randrange(5), A=a["A"], B=b["A"], O=w.thing()),
                     lambda: w.action(w.choice(w.pick(ACTIONS)), w.random() < 0.6, w.where(), A=a["A"], O=w.thing()),
                     lambda: w.fact("person", w.choice(list(FACTS["person"])), a)))().text[:-1].split()
    if not label:
        i = w.choice([i for i, word in enumerate(text) if word in FUNCTION_WORDS and 0 < i < len(text) - 1] or [1])
        text[i:i + 2] = text[i + 1:i + 2] if w.random() < 0.4 else text[i + 1:i - 1:-1]
    return (polish(" ".join(text)),)


def _sst2(w: Writer, label: int) -> tuple[str, ...]:
    return (opinion(w, bool(label)),)


def _mrpc(w: Writer, label: int) -> tuple[str, ...]:
    """Two ways to tell one event (1); or of two events that differ in who, what or what was done (0)."""
    a, b, o = w.entity("person")["A"], w.who(), w.thing()
    tail = w.choice(("", " " + w.where(), " on " + w.pick(DAYS)))
    change = "" if label else w.choice("who what deed".split())
    other = w.thing() if change == "what" else o
    if w.random() < 0.5 and a != b:
        kind, slots = w.rng.randrange(5), {"A": a, "B": b, "O": o}
        forms = w.rng.sample(range(4), 2)
        swapped = slots | {"O": other} | ({"A": b, "B": a} if change == "who" else {})
        return (w.transfer(kind, forms[0], tail, **slots).text,
                w.transfer((kind + 1) % 4 if change == "deed" else kind, forms[1], tail, **swapped).text)
    verbs = w.pick(ACTIONS)
    x, y = w.rng.sample(verbs, 2)
    y = w.choice(w.pick(ACTIONS, verbs)) if change == "deed" else y
    passive = w.random() < 0.5
    return (w.action(x, passive, tail[1:], A=b, O=o).text,
            w.action(y, w.random() < 0.5, tail[1:], A=w.entity("person")["A"] if change == "who" else b, O=other).text)


def _relations() -> list[tuple[str, str]]:
    return [(kind, relation) for kind, relations in FACTS.items() for relation in relations]


def _qqp(w: Writer, label: int) -> tuple[str, ...]:
    """Two questions with one meaning (1); or about another entity or another fact (0)."""
    kind, relation = w.choice(_relations())
    entity, relations = w.entity(kind), list(FACTS[kind])
    first, second = w.rng.sample(range(3), 2)
    other = (entity, relation) if label else (w.entity(kind, entity), relation) if w.random() < 0.4 else (
        entity, w.choice([r for r in relations if r != relation]))
    return (w.fact(kind, relation, entity).qa[first][0], w.fact(kind, other[1], other[0]).qa[second][0])


def _stsb(w: Writer, target: float) -> tuple[str, str, float]:
    """Two events and how much of who, deed, thing, place and day they share, from 0 to 5."""
    share, score = target / 5, 0.0
    trade, verbs, thing = w.entity("trade"), w.pick(ACTIONS), w.entity("object")
    names, alike = [trade["A"], trade["a"]], [o for o in world()["object"] if o["Q"] == thing["Q"] and o is not thing]
    place, day = w.pick(PLACES), w.pick(DAYS)
    second = [w.pick(TRADES, names)[0], w.choice(w.pick(ACTIONS, verbs)), w.entity("object", thing)["A"],
              w.pick(PLACES, place), w.pick(DAYS, day)]
    same = [w.choice(names), w.choice(verbs), thing["A"], place, day]
    for i, weight in enumerate((1.25, 1.5, 1.25, 0.5, 0.5)):
        if w.random() < share:
            second[i], score = same[i], score + weight
        elif i == 2 and w.random() < 0.5:
            second[i], score = w.choice(alike)["A"], score + weight / 2
    texts = [w.action(verb, w.random() < 0.4, where, when, A="the " + who, O="the " + what).text for who, verb, what, where, when
             in ((w.choice(names), w.choice(verbs), thing["A"], place, day), second)]
    return texts[0], texts[1], score


NOT = ("it is not true that ", "it is wrong to say that ", "nobody would say that ")


def _entail(w: Writer, label: int, persons: bool = True) -> tuple[str, str]:
    """A premise and a hypothesis that follows (0), may be true or not (1) or cannot be true (2)."""
    p, q = w.people()
    a, b = (p["A"], q["A"]) if persons else ("the " + w.pick(TRADES)[0], "the " + w.pick(TRADES)[1])
    rule = w.choice(("fact", "fact", "fact", "compare", "kind", "property", "event", "taste") if persons else
                    ("kind", "property", "event", "taste"))
    if rule == "fact":  # the hypothesis is of the same form whatever the label
        rows = [("birth", "{A} was born in {T}", "{A} was born in {C}", "C"), ("home", "{A} lives in {H}", "{A} lives in {HC}", "HC"),
                ("work", "{A} is a {J}", "{A} works in a {G}", "G"), ("work", "{A} works as a {J}", "{A} uses a {O}", "O"),
                ("birth", "{A} came into the world in {T}", "the mother tongue of {A} is {L}", "L"),
                ("pet", "{A} keeps a {P}", "{A} keeps a {Q}", "Q")]
        topic, premise, hypothesis, slot = w.choice(rows)
        if label == 1:
            premise = w.choice([row[1] for row in rows if row[0] != topic])
        while label == 2 and q[slot] == p[slot]:
            q = w.entity("person")
        value = {slot: q[slot]} if label == 2 or label == 1 and w.random() < 0.5 else {}
        return w.say(premise, **p), w.say(hypothesis, **p | value)
    if rule == "compare":
        if p["age"] == q["age"]:
            return _entail(w, label, persons)
        scale = w.rng.randrange(2)
        more, less = sorted((p, q), key=lambda x: -int(x[("height", "age")[scale]]))
        words = (("taller", "shorter"), ("older", "younger"))
        first, then = w.rng.sample((0, 1), 2)
        premise = f"{(more, less)[first]['A']} is {words[scale][first]} than {(less, more)[first]['A']}"
        subject, other = (more, less)[then]["A"], (less, more)[then]["A"]
        subject, other = (other, subject) if label == 2 or label == 1 and w.random() < 0.5 else (subject, other)
        return w.say(premise), w.say(f"{subject} is {words[scale ^ (label == 1)][then]} than {other}")
    if rule == "kind":  # low implies high, and not high implies not low; the other direction is open
        _, low, high, false = generality(w, a)
        no = w.choice(NOT)
        cases = ([(low, high), (no + high, no + low)], [(high, low), (no + low, no + high)],
                 [(low, false if false != high else no + high), (no + high, low), (low, no + high), (low, no + low)])[label]
        premise, hypothesis = w.choice(cases)
        return w.say(premise), w.say(hypothesis)
    if rule == "property":
        table = PERSON_PAIRS if persons and w.random() < 0.5 else THING_PAIRS
        subject = a if table is PERSON_PAIRS else "the " + w.entity("object")["A"]
        row = w.pick(table)
        other = w.choice(w.choice(w.pick(table, row)))
        same, opposite = row if w.random() < 0.5 else row[::-1]
        x, y = w.rng.sample(same, 2)
        no = w.random() < 0.5
        word = other if label == 1 else w.choice(opposite) if no == (label == 0) else y
        return w.say(f"{subject} was {x}"), w.say(f"{subject} was {'not ' if no else ''}{word}")
    if rule == "event":
        kind, slots = w.rng.randrange(5), {"A": a, "B": b, "O": w.thing()}
        forms, tail = w.rng.sample(range(4), 2), w.choice(("", " " + w.where()))
        then = slots | ({"A": b, "B": a} if label == 2 else {"O": w.thing()} if label == 1 else {})
        return w.transfer(kind, forms[0], tail, **slots).text, w.transfer(kind, forms[1], tail, **then).text
    good, (k, x, y, *_) = w.random() < 0.5, w.pick(ASPECTS)
    liked = w.choice(("disliked hated loathed", "liked loved enjoyed")[good ^ (label == 2)].split())
    return (w.say("{A} [thought|said] that the {x} was {g}", A=a, x=x, g=w.pick((BAD, GOOD)[good])),
            w.say("{A} {v} the {x}", A=a, v=liked, x=y if label == 1 else x))


def _mnli(w: Writer, label: int) -> tuple[str, ...]:
    return _entail(w, label)


def _mnli_mismatched(w: Writer, label: int) -> tuple[str, ...]:
    return _entail(w, label, persons=False)


def _rte(w: Writer, label: int) -> tuple[str, ...]:
    """A short text and a statement that follows (0) or does not (1)."""
    premise, hypothesis = _entail(w, label and w.choice((1, 2)))
    more = [w.action(w.choice(w.pick(ACTIONS)), w.random() < 0.5, w.where(), A=w.who(), O=w.thing()).text, premise]
    w.rng.shuffle(more)
    return " ".join(more), hypothesis


def _wnli(w: Writer, label: int) -> tuple[str, ...]:
    """A sentence, and its last clause with the pronoun replaced by whom it means (1) or does not mean (0)."""
    text, pronoun, right, wrong = schema(w)
    return text, w.say((right if label else wrong) + text[text.index(" because ") + 9 + len(pronoun):])


def _passage(w: Writer) -> list[Line]:
    """A story, or facts about two entities of one kind."""
    if w.random() < 0.4:
        return story(w)
    kind = w.choice(("person", "person", "town", "town", "animal", "trade"))
    x = w.entity(kind)
    lines = _facts(w, kind, x, w.rng.randint(4, 6)) + _facts(w, kind, w.entity(kind, x), w.rng.randint(3, 5))
    return lines


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
    i, question, answer = _asked(w, lines)
    others = [line.text for line in lines if question not in dict(line.qa) and line.qa]
    return (question, w.choice(others) if label and others else lines[i].text) if others else _qnli(w, label)


def _squad(w: Writer, label: int) -> tuple[Any, ...]:
    """A passage, a question, and the answer as a span of the passage."""
    lines = _passage(w)
    i, question, answer = _asked(w, lines)
    context = " ".join(line.text for line in lines)
    start = sum(len(line.text) + 1 for line in lines[:i]) + lines[i].text.lower().index(answer.lower())
    return context, question, {"text": [context[start:start + len(answer)]], "answer_start": [start]}


def _imdb(w: Writer, label: int) -> tuple[str, ...]:
    """A long review; the judgement is the sum of its opinions, those marked as heavy counting 2, as light 1/2."""
    kind, sign, opinions = w.rng.randrange(len(ASPECTS)), 2 * label - 1, []
    while not 2 <= sign * sum((2 * good - 1) * (1, 0.5, 2)[weight] for good, weight in opinions) <= 12:
        opinions = [(w.random() < 0.4 + 0.2 * label, w.rng.randrange(3)) for _ in range(w.rng.randint(14, 26))]
    lines = [weighted(w, good, kind, (None, False, True)[weight]) for good, weight in opinions]
    return (" ".join([*_passage(w)[0][:1], *lines]),)


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
SMALL = {("wnli", "train"): 600, ("wnli", "validation"): 72, ("imdb", "train"): 2000, ("rte", "train"): 2500}


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
    n = SMALL.get((task, split), SIZES[split.split("_")[0]]) if n is None else n
    rows = _rows(task, split, n, seed)
    if task == "squad":
        data = [{"id": f"{split}-{i}", "title": "Toyworld", **dict(zip(columns, texts))} for i, (texts, _) in enumerate(rows)]
        answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
        kinds = {c: Value("string") for c in ("id", "title", "context", "question")} | {"answers": answers}
        return Dataset.from_list(data, features=Features(kinds))
    hidden = split.startswith("test") and task != "imdb"
    data = [dict(zip(columns, texts)) | {"label": -1 if hidden else texts[2] if task == "stsb" else label, "idx": i}
            for i, (texts, label) in enumerate(rows)]
    kinds = {c: Value("string") for c in columns} | {"label": ClassLabel(names=list(names)) if names else Value("float32")}
    if task != "imdb":
        kinds["idx"] = Value("int32")
    return Dataset.from_list([{c: row[c] for c in kinds} for row in data], features=Features(kinds))
