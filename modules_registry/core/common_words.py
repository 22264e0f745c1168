"""Common English words: each is spelled as it was meant, also where no module of the library uses it.

The search takes a word that nobody uses for a known one that is near, but “make” is not “rake”.
"""

import re

COMMON_WORDS = frozenset(
    re.findall(
        r"[a-z]+",
        """
    able about above accept accident according account across act action active activity actual add
    address admit adult advance advice affair afford afraid after afternoon again against age agency agent
    ago agree ahead aim air airport alive all allow almost alone along already also although always amount
    analysis ancient anger angle angry animal announce annual another answer any anybody anyone anything
    anyway anywhere apart apartment apologize appeal appear apple application apply appoint approach
    approve area argue arm army around arrange arrest arrive art article artist ask asleep assess asset
    assist assume ate attach attack attempt attend attention attitude attract author average avoid award
    aware away baby back bad bag bake balance ball band bank bar barely base basic basis basket bat bath
    battle beach bean bear beat beautiful beauty because become bed bee beef beer before began begin
    behave behavior behind being belief believe bell belong below belt bend beneath benefit beside best
    bet better between beyond big bike bill bind bird birth bit bite bitter black blade blame blank blind
    block blood bloom blow blue board boat body boil bold bomb bond bone book boot border boring born
    borrow boss both bother bottle bottom bowl box boy brain branch brand brave bread break breakfast
    breath breathe brick bridge brief bright bring broad broken brother brought brown brush budget bug
    build building built burn bus business busy but butter button buy cake calculate call calm came camera
    camp can cancel cancer candle cap capable capital capture car card care career careful carry case cash
    cast castle cat catch category caught cause cell center central century certain chain chair challenge
    chance change channel chapter character charge chart chase cheap check cheese chef chemical chest
    chicken chief child children choice choose chose church circle citizen city civil claim class clean
    clear clever click client climate climb clock close cloth clothes cloud club clue coach coal coast
    coat coffee coin cold collect college color column combine come comfort command comment commit common
    company compare compete complain complete complex computer concept concern condition conduct confirm
    conflict connect consider consist contact contain content contest context continue contract control
    convert cook cookie cool copy core corn corner correct cost cotton couch could council count country
    county couple courage course court cousin cover cow crack craft crash crazy cream create credit crew
    crime crisis critic crop cross crowd cruel cry culture cup cure current curve custom customer cut cute
    cycle dad daily damage dance danger dare dark data date daughter day dead deal dear death debate debt
    decade decide decision deep deer defend define degree delay deliver demand deny depend depth describe
    desert deserve design desk despite destroy detail detect develop device devil dictionary did die diet
    differ difference different difficult dig dinner direct dirt dirty disagree discover discuss disease
    dish distance divide doctor document does dog dollar done door dot double doubt down dozen draft drag
    draw dream dress drew drink drive drop drove drug dry duck due dust duty each eager ear early earn
    earth ease east easy eat economy edge edit editor educate effect effort egg eight either elect
    electric element else email employ empty enable end enemy energy engage engine enjoy enough ensure
    enter entire entry equal error escape especially essay essential estimate even evening event ever
    every everybody everyone everything evidence evil exact exam examine example excellent except exchange
    excite excuse exercise exist exit expand expect expensive experience expert explain explore express
    extend extra extract eye face fact factor factory fail fair faith fall false familiar family famous
    fan fancy far farm farmer fashion fast fat father fault favor favorite fear feature fee feed feel fell
    fellow felt female fence few field fight figure file fill film final find fine finger finish fire firm
    first fish fit five fix flag flame flash flat flavor flew flight float floor flour flow flower fly
    focus fold folk follow food foot football force foreign forest forever forget forgive fork form formal
    former forth fortune forward found four fox frame free freeze fresh friend friendly frog front frozen
    fruit fuel full fun function fund funny fur future gain game gap garage garden gas gate gather gave
    general generate gentle get giant gift girl give glad glass global glove go goal goat god gold golf
    gone good got govern grab grade grain grand grandmother grant grass gray great green greet grew grey
    grocery ground group grow growth guard guess guest guide guilty guitar gun guy habit hair half hall
    hammer hand handle hang happen happy hard hardly harm hat hate have head heal health hear heard heart
    heat heaven heavy height held hell hello help her here hero hide high hill him hire his history hit
    hold hole holiday home honest honey hook hope horse hospital host hot hotel hour house how however
    huge human humor hundred hunger hungry hunt hurry hurt husband ice idea ideal identify identity idiom
    ignore ill image imagine impact import important improve inch include income increase indeed industry
    inform input insect inside insist install instance instead instruct insure intend interest internal
    internet interview into introduce invent invest invite involve iron island issue item itself jacket
    jail jam jar jazz jealous jeans job join joke journal journey joy judge juice jump junior jury just
    justice keep kept key kick kid kill kind king kiss kitchen knee knew knife knock know knowledge lab
    labor lack lady laid lake lamp land language large last late laugh laundry law lawyer lay layer lazy
    lead leader leaf learn least leather leave led left leg lemon lend length lent less lesson let letter
    level library lie life lift light like likely limit line link lion lip list listen lit liter
    literature little live living load loan local locate lock log logic lonely long look loose lord lose
    loss lost lot loud love low luck lucky lunch machine mad made magic mail main major make male mall man
    manage manner many map march mark market marry mask mass master match material math matter may maybe
    mayor meal mean meant measure meat media medical meet meeting member memory men mention menu mere
    merge mess message met metal method middle might mile milk mill mind mine minor minute mirror miss
    mistake mix mobile mode model modern moment money monkey month mood moon moral more morning most
    mother motion motor mountain mouse mouth move movie much mud multiply murder muscle museum music must
    mutual myself mystery nail naked name narrow nation native nature navy near neat necessary neck need
    needle neighbor neither nerve nest net network never new news next nice night nine nobody noise none
    noon nor normal north nose note nothing notice novel now number nurse nut object obtain obvious occur
    ocean odd off offer office officer often oil okay old once one onion only onto open operate opinion
    oppose option orange order ordinary organ organize origin other ought our out outline output outside
    oven over owe own owner pace pack page paid pain paint pair palace pale pan panel paper parent park
    part particular partner party pass past path patient pattern pause pay peace pen pencil people pepper
    per percent perfect perform perhaps period permit person pet phone photo phrase physical piano pick
    picture piece pig pile pill pilot pin pink pipe pitch pizza place plain plan plane planet plant
    plastic plate play player please pleasure plenty plot plug plus pocket poem poet poetry point poison
    police policy polite poll pool poor pop popular port pose position possible post pot potato pound pour
    power practice praise pray prefer prepare present president press pressure pretty prevent price pride
    priest prime prince print prior prison private prize probably problem proceed process produce product
    profit program project promise promote prompt proof proper property propose protect proud prove
    provide public pull punish pure purple purpose push put puzzle quality quarter queen query question
    quick quiet quit quite quiz quote rabbit race radio rail rain raise ran random rang range rank rapid
    rare rate rather raw reach react read reader ready real reality realize really reason recall receive
    recent recipe recognize recommend record recover red reduce refer reflect refuse regard region regret
    regular reject relate relation relax release religion rely remain remember remind remove rent repair
    repeat replace reply report request require rescue research reserve respect respond response rest
    restaurant result return reveal reverse review reward rhyme rhythm rice rich ride right ring rise risk
    river road rob rock rode role roll roof room root rope rose rough round route row royal rub rude ruin
    rule run rush sad safe said sail salad salary sale salt same sample sand sang sat save saw say scale
    scan scare scene school science score scratch scream screen sea search season seat second secret
    section secure see seed seek seem select self sell send sense sensitive sent sentence separate serial
    series serious serve service set settle seven several severe sex shade shadow shake shall shame shape
    share sharp she sheep sheet shelf shell shift shine ship shirt shock shoe shone shoot shop shore short
    shot should shoulder shout show shower shut shy sick side sight sign signal silence silent silk silly
    silver similar simple since sing single sink sister sit site situation six size skill skin skip sky
    sleep slept slice slide slight slip slow small smart smell smile smoke smooth snake snow soap social
    sock soft soil sold soldier solid solution solve some somebody someone something sometimes somewhere
    son song soon sort soul sound soup source south space speak special speech speed spell spend spent
    spirit split spoil spoke spoon sport spot spread spring square stable staff stage stair stand standard
    star stare start state station stay steady steal steam steel step stick still stole stomach stone
    stood stop store storm story straight strange stranger stream street strength stress stretch strict
    strike string strip strong structure student study stuff stupid style subject succeed success such
    sudden suffer sugar suggest suit summer sun super supply support suppose sure surface surprise
    surround survey survive swam sweet swim swing switch sword symbol system table tail take taken tale
    talent talk tall tank tape target task taste taught tax tea teach teacher team tear tell temple ten
    tend tennis tense tent term terrible test text than thank that theater their them theme then theory
    there these they thick thief thin thing think third thirty this those though thought thousand thread
    threat three threw throat through throw thus ticket tie tiger tight till time tiny tip tire title
    today toe together toilet told tomato tomorrow tone tongue tonight too took tool tooth top topic total
    touch tough tour toward towel tower town toy trace track trade tradition traffic train transfer
    translate transport trap trash travel treat tree trend trial trick trip trouble truck true trust truth
    try turn twelve twenty twice twin two type typical ugly uncle under understand understood unit unite
    universe university unless until upon upper upset urban urge use useful usual valley value van various
    vast vegetable vehicle verb verse version very victim video view village violent virus visit voice
    volume vote wage wait wake walk wall want war warm warn wash waste watch water wave way weak wealth
    weapon wear weather web wedding week weigh weight welcome well west wet whale what wheat wheel when
    where whether which while white who whole whom whose why wide wife wild will win wind window wine wing
    winner winter wire wise wish with within without woke wolf woman women won wonder wood wooden word
    wore work world worn worry worse worst worth would wound wrap write writer written wrong wrote yard
    yeah year yellow yes yesterday yet yield you young your youth zero zone zoo
    """,
    )
)
# Endings of other forms, and what stands for them in the word itself.
ENDINGS = (
    (re.compile(r"(?:'s|s)\Z"), ("",)),
    (re.compile(r"(?<=[sxzoh])es\Z"), ("",)),
    (re.compile(r"ie(?:s|d|r|st)\Z"), ("y",)),
    (re.compile(r"ily\Z"), ("y",)),
    (re.compile(r"ves\Z"), ("f", "fe")),
    (re.compile(r"(?<=[^e])ly\Z"), ("",)),
)
WITH_VOWEL = re.compile(r"(?:ed|er|ers|est|ing|ings)\Z")
DOUBLED = re.compile(r"([b-df-hj-np-tvz])\1\Z")
DOUBLES = re.compile(r"[^aeiou]*[aeiou][b-df-hj-np-tvz]")  # “run” does before such an ending: “running”


def is_common(word: str) -> bool:
    """Whether it is a common English word, in whatever ending: “make”, “makes”, “making”."""
    if word in COMMON_WORDS:
        return True
    made = [pattern.sub(end, word) for pattern, ends in ENDINGS if pattern.search(word) for end in ends]
    if WITH_VOWEL.search(word):
        base = WITH_VOWEL.sub("", word)
        made += [f"{base}e", base[:-1]] if DOUBLED.search(base) else [f"{base}e"]
        made += [] if DOUBLES.fullmatch(base) else [base]
    return any(base in COMMON_WORDS for base in made)
