"""The world's words and templates, as data. In a list the common words stand first.

In the tasks, a third of the words of a list is kept from training (see ``Writer.pick``).
"""

from __future__ import annotations


def _rows(text: str) -> list[str]:
    """The rows of a table, which end with a semicolon."""
    return [" ".join(row.split()) for row in text.split(";")]


def _table(text: str) -> list[list[str]]:
    """The cells of a table, which end with a comma."""
    return [[cell.strip() for cell in row.split(",")] for row in _rows(text)]


TRADES = _table("""
baker,bread maker,oven,bakery,loaves; smith,ironworker,anvil,forge,horseshoes;
teacher,instructor,blackboard,school,lessons; doctor,physician,stethoscope,hospital,medicines;
farmer,grower,plough,farmyard,crops; tailor,dressmaker,needle,sewing room,suits;
carpenter,woodworker,saw,woodshop,shelves; cook,chef,ladle,kitchen,stews; fisher,angler,net,harbour,dried fish;
painter,artist,brush,studio,pictures; miller,grain grinder,millstone,mill,flour; writer,author,pen,study,novels;
sailor,seafarer,compass,ship,maps; judge,magistrate,gavel,court,rulings; potter,clay worker,wheel,pottery,jugs;
weaver,cloth maker,loom,weaving house,carpets; shoemaker,cobbler,awl,shoe shop,boots; butcher,meat
seller,cleaver,butchery,sausages; barber,hairdresser,razor,barbershop,wigs; gardener,plant keeper,spade,garden,flower
beds; miner,digger,pickaxe,mine,tunnels; musician,player,violin,concert hall,melodies;
clerk,bookkeeper,ledger,office,reports; lawyer,attorney,law book,chamber,contracts;
nurse,caregiver,thermometer,clinic,bandages; printer,typesetter,printing press,print house,newspapers; jeweller,gem
cutter,magnifier,jewel shop,rings; mason,bricklayer,trowel,building site,walls; brewer,beer maker,barrel,brewery,ale;
beekeeper,honey farmer,smoker,apiary,honey; shepherd,sheep herder,crook,pasture,wool; hunter,trapper,bow,forest,traps;
librarian,archivist,catalogue,library,reading lists; astronomer,stargazer,telescope,observatory,star charts;
chemist,druggist,flask,laboratory,potions; clockmaker,watchmaker,tweezer,clock shop,clocks; glassblower,glass
maker,blowpipe,glassworks,vases; candlemaker,wax worker,mould,candle shop,candles; sculptor,carver,chisel,marble
yard,statues; banker,moneylender,safe,bank,loans; florist,flower seller,shear,flower shop,bouquets; dentist,tooth
doctor,drill,surgery,fillings; roofer,thatcher,ladder,attic,roofs; tanner,leather maker,scraper,tannery,saddles;
actor,performer,mask,theatre,plays""")
ANIMALS = _table("""
dog,dogs,mammal,meat,kennels,bark,puppy; cat,cats,mammal,mice,barns,meow,kitten;
horse,horses,mammal,hay,stables,neigh,foal; cow,cows,mammal,grass,meadows,moo,calf;
sheep,sheep,mammal,clover,pastures,bleat,lamb; hen,hens,bird,corn,coops,cluck,chick; duck,ducks,bird,water
weed,ponds,quack,duckling; goat,goats,mammal,thistles,hills,bray,kid; pig,pigs,mammal,scraps,sties,grunt,piglet;
goose,geese,bird,barley,rivers,honk,gosling; owl,owls,bird,voles,towers,hoot,owlet;
wolf,wolves,mammal,deer,forests,howl,cub; bear,bears,mammal,berries,caves,growl,bear cub;
fox,foxes,mammal,rabbits,dens,yelp,fox cub; eagle,eagles,bird,snakes,cliffs,scream,eaglet;
frog,frogs,amphibian,flies,marshes,croak,tadpole; bee,bees,insect,nectar,hives,buzz,grub;
snake,snakes,reptile,eggs,deserts,hiss,hatchling; lion,lions,mammal,zebras,plains,roar,lion cub;
rabbit,rabbits,mammal,carrots,burrows,squeak,bunny; trout,trout,fish,larvae,streams,splash,fry;
crow,crows,bird,carrion,fields,caw,fledgling; cricket,crickets,insect,leaves,lawns,chirp,nymph; swan,swans,bird,pond
weed,lakes,trumpet,cygnet; donkey,donkeys,mammal,straw,sheds,heehaw,colt;
parrot,parrots,bird,seeds,jungles,squawk,nestling; seal,seals,mammal,herring,shores,yap,pup;
mosquito,mosquitoes,insect,blood,swamps,whine,wriggler; lizard,lizards,reptile,spiders,rocks,click,lizardling;
whale,whales,mammal,krill,oceans,sing,whale calf; pigeon,pigeons,bird,crumbs,roofs,coo,squab;
moth,moths,insect,wool,closets,flutter,caterpillar; salmon,salmon,fish,shrimps,fjords,leap,smolt;
turtle,turtles,reptile,jellyfish,reefs,snap,turtle hatchling; elephant,elephants,mammal,bark,savannas,rumble,elephant
calf""")
OBJECTS = {
    sort: [pair.split("/") for pair in pairs.split()]
    for sort, pairs in (
        row.split(":")
        for row in _rows("""
tool:hammer/iron saw/steel rake/wood shovel/iron axe/steel ladder/wood broom/straw file/steel lever/oak clamp/iron;
vessel:cup/clay bottle/glass bowl/wood jar/clay kettle/copper bucket/tin basket/willow vase/glass jug/stone flask/tin;
garment:coat/wool hat/felt shirt/cotton scarf/silk glove/leather belt/leather cloak/wool dress/linen sock/wool
apron/linen; instrument:drum/leather flute/bone harp/maple bell/bronze violin/spruce horn/brass lute/pine whistle/reed
gong/bronze; toy:doll/cloth kite/paper ball/rubber puppet/wood marble/glass hoop/cane mask/paper puzzle/cork;
jewel:ring/gold necklace/silver brooch/amber crown/gold bracelet/coral earring/pearl medal/bronze; vehicle:cart/oak
boat/pine wagon/oak sledge/birch bicycle/steel canoe/birch raft/bamboo; piece of furniture:chair/beech table/walnut
bed/pine bench/stone shelf/teak desk/walnut stool/beech mirror/glass cradle/elm""")
    )
}
FOODS = _table("""
fruits,sweet,apples,pears,cherries,plums,grapes,figs,melons,peaches,dates,apricots;
vegetables,earthy,onions,cabbage,carrots,potatoes,turnips,spinach,beets,leeks,parsnips; sour
foods,sour,lemons,vinegar,pickles,limes,gooseberries,sorrel,sauerkraut;
desserts,sugary,cake,jam,puddings,pancakes,toffee,waffles,custard,marzipan; salty
foods,salty,ham,olives,bacon,cheese,anchovies,crackers,caviar; bitter
foods,bitter,coffee,cocoa,chicory,walnuts,radicchio; spicy
foods,hot,ginger,mustard,peppers,radishes,horseradish,curry""")
# Each row: a property and its opposite, each with its synonyms.
THING_PAIRS = [
    [side.split() for side in row.split(":")]
    for row in _rows("""
big large huge sizeable:small little tiny compact; old ancient aged:new modern recent; heavy weighty massive:light
weightless feathery; clean spotless washed:dirty filthy grimy; cheap inexpensive affordable:expensive costly pricey;
hard solid rigid:soft spongy squashy; strong sturdy robust:fragile brittle frail; wet soaked damp:dry parched arid;
empty hollow vacant:full filled packed; bright shiny gleaming:dull dim faded; rare scarce uncommon:common ordinary
usual; hot scalding boiling:cold icy freezing; sharp pointed keen:blunt rounded dulled; broken damaged cracked:intact
whole undamaged; thick chunky bulky:thin slender slim; rough bumpy coarse:smooth even sleek; long lengthy extended:short
brief stubby; genuine real authentic:fake false forged""")
]
PERSON_PAIRS = [
    [side.split() for side in row.split(":")]
    for row in _rows("""
happy glad cheerful joyful:sad unhappy gloomy sorrowful; rich wealthy prosperous:poor penniless needy; brave bold
courageous:afraid scared fearful; strong mighty powerful:weak feeble puny; tired weary exhausted:rested fresh lively;
angry furious enraged:calm peaceful placid; clever smart bright:stupid foolish dim; sick ill unwell:healthy well fit;
kind friendly gentle:cruel mean unkind; fast quick swift:slow sluggish unhurried; busy occupied engaged:idle unoccupied
inactive; famous renowned celebrated:unknown obscure nameless; honest truthful sincere:deceitful lying dishonest; hungry
starving famished:full fed sated; noisy loud rowdy:quiet silent hushed; lazy indolent slack:diligent hardworking
industrious; careful cautious wary:careless reckless rash; generous giving charitable:stingy greedy miserly""")
]
ACTIONS = [
    row.split()
    for row in _rows("""
repaired mended fixed; cleaned washed scrubbed; found discovered located; lost mislaid misplaced; made built crafted;
carried hauled lugged; destroyed ruined wrecked; admired praised applauded; opened unlocked unsealed; closed shut
sealed; lifted raised hoisted; pulled dragged tugged; pushed shoved nudged; painted coloured decorated; examined
inspected studied; buried concealed stashed; collected gathered assembled; burned torched scorched; polished buffed
shined; delivered shipped conveyed; wanted desired craved; needed required demanded; sketched traced outlined; described
depicted portrayed; copied imitated duplicated; touched felt handled; covered wrapped veiled; bought purchased acquired;
protected guarded defended; guided steered directed; emptied drained unloaded""")
]
VERBS = _table("""
sing,sang,sung,singing; eat,ate,eaten,eating; sleep,slept,slept,sleeping; run,ran,run,running; swim,swam,swum,swimming;
work,worked,worked,working; write,wrote,written,writing; fall,fell,fallen,falling; sit,sat,sat,sitting;
drink,drank,drunk,drinking; speak,spoke,spoken,speaking; laugh,laughed,laughed,laughing; stand,stood,stood,standing;
draw,drew,drawn,drawing; drive,drove,driven,driving; dance,danced,danced,dancing; dream,dreamed,dreamed,dreaming;
ride,rode,ridden,riding; wait,waited,waited,waiting; fight,fought,fought,fighting; hide,hid,hidden,hiding;
rise,rose,risen,rising; dig,dug,dug,digging; weep,wept,wept,weeping; wander,wandered,wandered,wandering;
steal,stole,stolen,stealing; shake,shook,shaken,shaking; grow,grew,grown,growing; begin,began,begun,beginning;
leave,left,left,leaving; wake,woke,woken,waking; kneel,knelt,knelt,kneeling; whisper,whispered,whispered,whispering;
freeze,froze,frozen,freezing""")
GOOD = """
good wonderful great lovely excellent beautiful fine brilliant delightful charming superb perfect amazing funny pleasant
clever marvellous moving splendid fascinating gripping graceful elegant touching magnificent fantastic refreshing witty
enjoyable stunning terrific satisfying impressive thrilling enchanting glorious inspired memorable exquisite captivating
outstanding heartfelt lively vivid dazzling exceptional tasteful engaging sublime masterful remarkable rewarding
absorbing flawless polished hilarious radiant riveting stirring imaginative irresistible phenomenal poignant sparkling
spellbinding admirable stellar uplifting compelling endearing luminous breathtaking sumptuous ravishing exhilarating
first-rate top-notch astute invigorating spirited dependable""".split()
BAD = """
bad terrible boring awful poor dull ugly horrible weak dreadful stupid tedious silly disappointing ridiculous unpleasant
tiresome messy annoying clumsy pathetic lifeless predictable miserable disgusting shallow empty depressing ghastly
forgettable lame appalling atrocious dismal bland irritating sloppy lousy abysmal pointless mediocre painful confused
hideous laughable repulsive shoddy feeble unbearable vulgar inept dreary tacky wretched insipid grating monotonous
hollow incoherent obnoxious stale woeful abominable contrived drab infuriating lacklustre nauseating soulless turgid
unwatchable vapid amateurish banal botched trite half-baked second-rate plodding revolting soggy insufferable""".split()
ASPECTS = _table("""
film,acting,plot,music,ending,dialogue,opening scene,camera work,cast; book,style,story,hero,first chapter,cover,final
page,language,translation; meal,soup,service,wine,sauce,dessert,roast,salad,bill;
inn,room,breakfast,bed,view,staff,garden,bath,location;
concert,singer,orchestra,hall,encore,sound,programme,drummer,lighting; play,stage,costume,script,lead role,second
act,scenery,director,chorus; game,board,design,rulebook,artwork,pace,idea,puzzle,finale;
tour,guide,route,bus,museum,castle,price,boat ride,souvenir shop""")
PLACES = _rows("""
at the market; in the square; by the bridge; near the church; in the garden; behind the barn; at the harbour; on the
hill; in the cellar; at the station; by the well; in the attic; under the oak; at the fair; in the courtyard; near the
fountain; in the hallway; at the crossroads; by the gate; beside the chapel; in the orchard; near the lighthouse; on the
terrace; in the vineyard""")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
WEATHER = _table("""
rain,rainy,took an umbrella; snow,snowy,lit the stove; sunshine,sunny,sat outside; wind,windy,held on to a hat;
fog,foggy,lost the way; frost,frosty,wore two coats; thunder,stormy,hid under the roof; hail,hailing,ran indoors;
heat,sweltering,looked for shade; drizzle,drizzly,put on boots""")
LITTLE = "a an the its in on at by to from of among near behind beside under".split()  # may begin an answer, or not
NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty""".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
# Ways to say the same thing; "~word" in a template stands for any word of its row.
SYNONYMS = {
    words[0]: words
    for words in _table("""
said,replied,answered,remarked,explained; walked,strolled,hiked,marched; road,street,lane,path;
gift,present,surprise,token; friend,companion,pal,mate; often,frequently,regularly,time and again; soon,shortly,before
long; stayed,remained,lingered; everyone,everybody,each person; very,extremely,really,terribly,quite;
truly,indeed,certainly,surely; people,folk,townspeople; money,coins,cash; happily,gladly,joyfully,merrily;
visited,called on,dropped in on; suddenly,all at once,unexpectedly; afternoon,evening,morning;
thief,robber,bandit,burglar""")
}
# {A} is the subject ({Ao}, {As}: in object position, as a possessor; a pronoun may stand for it); the other slots are
# its facts. kind → relation → (statements, questions, the slot that answers).
FACTS: dict[str, dict[str, tuple[list[str], list[str], str]]] = {
    kind: {name: (statements.split("|"), questions.split("|"), slot) for name, statements, questions, slot in rows}
    for kind, rows in {
        "person": [
            (
                "birth",
                "{A} was born in {T}|{A} came into the world in {T}|{T} is the birthplace of {Ao}",
                "Where was {A} born|What is the birthplace of {A}|In which town did {A} come into the world",
                "T",
            ),
            (
                "home",
                "{A} lives in {H}|{A} resides in {H}|{H} is where {A} makes {his} home",
                "Where does {A} live|In which town does {A} reside|What is the home town of {A}",
                "H",
            ),
            (
                "trade",
                "{A} is a {J}|{A} works as a {J}|by trade {A} is a {J}|{A} earns {his} living as a {J}",
                "What does {A} do for a living|What is the trade of {A}|How does {A} earn {his} living",
                "J",
            ),
            (
                "spouse",
                "{A} is married to {S}|{S} is the {wife} of {Ao}|{As} {wife} is called {S}",
                "Who is {A} married to|Who is the {wife} of {A}|What is the name of the {wife} of {A}",
                "S",
            ),
            (
                "age",
                "{A} is {N} years old|{A} has lived for {N} years|{A} turned {N} this year",
                "How old is {A}|What is the age of {A}|How many years has {A} lived",
                "N",
            ),
            (
                "pet",
                "{A} keeps a {P}|{A} has a {P} at home|{A} is the owner of a {P}",
                "Which animal does {A} keep|What animal is owned by {A}|What is the pet of {A}",
                "P",
            ),
            (
                "likes",
                "{A} is fond of {F}|{A} likes {F}|{A} loves to eat {F}",
                "Which food does {A} like|What is {A} fond of|What does {A} love to eat",
                "F",
            ),
            (
                "hates",
                "{A} dislikes {D}|{A} cannot stand {D}|{A} never touches {D}",
                "Which food does {A} dislike|What can {A} not stand|What does {A} never touch",
                "D",
            ),
            (
                "friend",
                "{A} is a good friend of {B}|{B} is a close companion of {Ao}|{As} best friend is {B}",
                "Who is the best friend of {A}|Who is {A} a good friend of|Who is a close companion of {A}",
                "B",
            ),
        ],
        "town": [
            (
                "country",
                "{A} lies in {C}|{A} is a town in {C}|{A} is part of {C}",
                "In which country does {A} lie|Which country is {A} part of|In what land is {A}",
                "C",
            ),
            (
                "river",
                "{A} stands on the {R}|the {R} flows through {Ao}|the river of {Ao} is the {R}",
                "On which river does {A} stand|Which river flows through {A}|What is the river of {A} called",
                "R",
            ),
            (
                "tongue",
                "the ~people of {Ao} speak {L}|{L} is spoken in {Ao}|the mother tongue of {Ao} is {L}",
                "What do the people of {A} speak|Which language is spoken in {A}|What is the mother tongue of {A}",
                "L",
            ),
            (
                "goods",
                "{A} is famous for its {X}|{A} is well known for {X}|travellers come to {Ao} for its {X}",
                "What is {A} famous for|What is {A} well known for|Why do travellers come to {A}",
                "X",
            ),
            (
                "founded",
                "{A} was founded in {Y}|the first stone of {Ao} was laid in {Y}|{A} was built in {Y}",
                "When was {A} founded|In which year was the first stone of {A} laid|When was {A} built",
                "Y",
            ),
            (
                "mayor",
                "the mayor of {Ao} is {M}|{M} is the mayor of {Ao}|{M} governs {Ao}",
                "Who is the mayor of {A}|Who governs {A}|What is the name of the mayor of {A}",
                "M",
            ),
        ],
        "country": [
            (
                "capital",
                "the capital of {A} is {K}|{K} is the capital of {A}|{A} is ruled from {K}",
                "What is the capital of {A}|Which town is the capital of {A}|From which town is {A} ruled",
                "K",
            ),
            (
                "speech",
                "most people in {A} speak {L}|{L} is the language of {A}|in {A} children learn {L}",
                "Which language do people in {A} speak|What is the language of {A}|What do children in {A} learn",
                "L",
            ),
            (
                "head",
                "the head of {A} is {M}|{M} rules {A}|{M} is the ruler of {A}",
                "Who rules {A}|Who is the ruler of {A}|Who is the head of {A}",
                "M",
            ),
        ],
        "animal": [
            (
                "diet",
                "{A} eat {E}|{A} feed on {E}|{A} live on a diet of {E}|the favourite food of {A} is {E}",
                "What do {A} eat|What do {A} feed on|What is the favourite food of {A}",
                "E",
            ),
            (
                "habitat",
                "{A} live in {W}|{A} make their homes in {W}|{W} are the home of {A}",
                "Where do {A} live|Where do {A} make their homes|In what places are {A} found",
                "W",
            ),
            (
                "class",
                "a {a} is a {Q}|the {a} is a kind of {Q}|the {a} belongs among the {Q}s",
                "What kind of animal is a {a}|To which class does the {a} belong|What is a {a}",
                "Q",
            ),
            (
                "sound",
                "{A} {V} when they are hungry|{A} {V}|you can hear {A} {V} at night",
                "What do {A} do when they are hungry|Which sound do {A} make|How do {A} sound",
                "V",
            ),
            (
                "young",
                "a young {a} is called a {Z}|a {Z} is a young {a}|the young of a {a} is known as a {Z}",
                "What is a young {a} called|How do we call a young {a}|What is the young of a {a}",
                "Z",
            ),
        ],
        "trade": [
            (
                "tool",
                "a {A} uses a {O}|every {A} owns a {O}|a {A} cannot work without a {O}",
                "Which tool does a {A} use|What can a {A} not work without|What does every {A} own",
                "O",
            ),
            (
                "place",
                "a {A} works in a {G}|you will find a {A} in a {G}|a {G} is the workplace of a {A}",
                "Where does a {A} work|Where will you find a {A}|What is the workplace of a {A}",
                "G",
            ),
            (
                "product",
                "a {A} makes {X}|a {A} sells {X}|we get {X} from a {A}",
                "What does a {A} make|What does a {A} sell|What do we get from a {A}",
                "X",
            ),
            (
                "name",
                "a {A} is also called a {a}|a {a} is the same as a {A}|another word for a {A} is {a}",
                "What is a {A} also called|What is another word for a {A}|What is the same as a {A}",
                "a",
            ),
        ],
        "object": [
            (
                "stuff",
                "a {A} is made of {U}|{U} is used to make a {A}|every {A} in this land is of {U}",
                "What is a {A} made of|What is used to make a {A}|Of which material is every {A}",
                "U",
            ),
            (
                "use",
                "a {A} is a {Q}|the {A} is a kind of {Q}|we call the {A} a {Q}",
                "What kind of thing is a {A}|What is a {A}|What do we call the {A}",
                "Q",
            ),
        ],
        "food": [
            (
                "taste",
                "the taste of {A} is {U}|cooks find {A} {U}|most people call {A} {U}",
                "What is the taste of {A}|How do cooks find {A}|What do most people call {A}",
                "U",
            ),
            (
                "sort",
                "cooks place {A} among the {Q}|shops sell {A} as {Q}|you will find {A} among the {Q}",
                "Among what do cooks place {A}|As what do shops sell {A}|Among what will you find {A}",
                "Q",
            ),
        ],
    }.items()
}
# Something goes from {A} to {B}: (statements, questions with the slot that answers).
TRANSFERS = [
    (statements.split(" / "), [tuple(q.split("=")) for q in questions.split("|")])
    for statements, questions in [
        (
            "{A} [gave|handed] {O} to {B} / {A} [gave|handed] {B} {O} / {B} [got|received] {O} from {A} / "
            "{O} was given to {B} by {A}",
            "Who gave {O} to {B}=A|Who received {O} from {A}=B|What did {A} give to {B}=O",
        ),
        (
            "{A} sold {O} to {B} / {A} sold {B} {O} / {B} [bought|purchased] {O} from {A} / {O} was sold to {B} by {A}",
            "Who sold {O} to {B}=A|Who bought {O} from {A}=B|What did {A} sell to {B}=O",
        ),
        (
            "{A} lent {O} to {B} / {A} lent {B} {O} / {B} borrowed {O} from {A} / {O} was lent to {B} by {A}",
            "Who lent {O} to {B}=A|Who borrowed {O} from {A}=B|What did {B} borrow from {A}=O",
        ),
        (
            "{A} sent {O} to {B} / {A} [sent|mailed] {B} {O} / {B} was sent {O} by {A} / {O} was sent to {B} by {A}",
            "Who sent {O} to {B}=A|Who was sent {O} by {A}=B|What did {A} send to {B}=O",
        ),
        (
            "{B} stole {O} from {A} / {A} was robbed of {O} by {B} / {B} took {O} away from {A} / "
            "{O} was stolen from {A} by {B}",
            "Who was robbed of {O} by {B}=A|Who stole {O} from {A}=B|What did {B} steal from {A}=O",
        ),
    ]
]
# A pronoun {p} that one word decides: sentence, the words that mean one of the two, which one, the words for the other.
SCHEMAS = _table("""
{A} could not lift {B} because {p} was too,heavy weighty massive,B,weak feeble puny; {A} lost the race against {B}
because {p} was so,fast quick swift,B,slow sluggish tired; {A} lent money to {B} because {p} was,rich wealthy
generous,A,poor penniless needy; {A} asked {B} for bread because {p} was,hungry starving poor,A,generous kind rich;
{A} took {B} to the doctor because {p} was,sick ill unwell,B,careful kind cautious; {A} lost the fight with {B}
because {p} was,strong mighty powerful,B,weak feeble sick; {A} carried the bags of {B} because {p} was,tired weary
weak,B,strong helpful kind; {A} let {B} solve the riddle because {p} was so,clever smart bright,B,stupid foolish
tired; {A} ran away from {B} because {p} was so,afraid scared fearful,A,cruel mean angry; {A} told {B} a joke because
{p} was,sad unhappy gloomy,B,funny witty cheerful; {a} did not fit into {b} because {p} was too,big large
huge,A,small little tiny; {a} broke {b} because {p} was so,hard solid heavy,A,fragile brittle frail; {a} was hidden
behind {b} because {p} was so,small little tiny,A,big large huge; {a} could not cut {b} because {p} was too,blunt
rounded soft,A,hard thick solid""")
# Sentence openers and joints; the kinds of opinion about aspects {x}, {y} of a {k}: {g}, {h} agree, {b} opposes.
AGAIN = (". in other words, ", ". that is, ", ". this means that ", ". we can also say that ", ", so ")
NOT = ("it is not true that ", "it is wrong to say that ", "nobody would say that ")
SO = (
    "{0}, so {1}",
    "since {0}, {1}",
    "{0}. this means that {1}",
    "if {0}, then {1}",
    "{0}. therefore {1}",
    "{0}. in other words, {1}",
)
TASTES = (["disliked", "hated", "loathed"], ["liked", "loved", "enjoyed"])
OPINIONS = (
    "the {x} [was|is] [|~very |truly ]{g}",
    "[I|we|many] found the {x} {g} and the {y} {h}",
    "the {k} has a {g} {x}",
    "the {x} was {b}, but the {y} was {g}",
    "although the {x} is {b}, the {k} is {g}",
    "the {x} was [not|never|hardly|far from] {b}",
    "this {k} is anything but {b}",
    "despite its {b} {x}, it is a {g} {k}",
    "it is a {g} {k} with a {h} {x}",
    "the {k} is {g}, even if the {x} seems {b}",
)
VERDICTS = (
    "[do not waste your ~money on this {k}|stay away from it|I was bored and left early|I want my ~money back|"
    "nobody should try it|one star out of five|I hated it|we will never come back|what a disaster]",
    "[I recommend this {k} to ~everyone|do not miss it|I was delighted and ~stayed to the end|it is worth the "
    "~money|~everyone should try it|five stars out of five|I loved it|we will come back ~soon|what a triumph]",
)
WEIGHTS = {
    False: "[it hardly matters that|it is a small point that|few will care that] ",
    True: "[above all,|what counts most is that|the main thing is that] ",
}
# What follows from a fact about a person: topic, premise, hypothesis, the slot that a false hypothesis gets wrong.
CONSEQUENCES = (
    ("birth", "{A} was born in {T}", "{A} was born in {C}", "C"),
    ("pet", "{A} keeps a {P}", "{A} keeps a {Q}", "Q"),
    ("birth", "{A} came into the world in {T}", "the mother tongue of {A} is {L}", "L"),
    ("home", "{A} lives in {H}", "{A} lives in {HC}", "HC"),
    ("work", "{A} is a {J}", "{A} works in a {G}", "G"),
    ("work", "{A} works as a {J}", "{A} uses a {O}", "O"),
)
