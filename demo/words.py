"""The words of the demo world: 72 everyday nouns in six kinds, written by hand.

Every word is one piece of text in each language, and its plural, French, Spanish and
German forms all differ from it, so that no skill is right by doing nothing.
"""

from random import Random
from typing import NamedTuple


class Word(NamedTuple):
    """One noun and its hand-written forms."""

    english: str
    plural: str
    french: str
    spanish: str
    german: str
    kind: str


TABLES = {
    "animal": """
        cat         cats         chat         gato       Katze
        dog         dogs         chien        perro      Hund
        horse       horses       cheval       caballo    Pferd
        cow         cows         vache        vaca       Kuh
        goose       geese        oie          ganso      Gans
        fox         foxes        renard       zorro      Fuchs
        mouse       mice         souris       ratón      Maus
        bear        bears        ours         oso        Bär
        rabbit      rabbits      lapin        conejo     Hase
        owl         owls         hibou        búho       Eule
        frog        frogs        grenouille   rana       Frosch
        goat        goats        chèvre       cabra      Ziege
    """,
    "fruit": """
        apple       apples       pomme        manzana    Apfel
        pear        pears        poire        pera       Birne
        grape       grapes       raisin       uva        Traube
        cherry      cherries     cerise       cereza     Kirsche
        strawberry  strawberries fraise       fresa      Erdbeere
        peach       peaches      pêche        durazno    Pfirsich
        plum        plums        prune        ciruela    Pflaume
        lemon       lemons       citron       limón      Zitrone
        fig         figs         figue        higo       Feige
        raspberry   raspberries  framboise    frambuesa  Himbeere
        pineapple   pineapples   ananas       piña       Ananas
        blueberry   blueberries  myrtille     arándano   Heidelbeere
    """,
    "tool": """
        saw         saws         scie         sierra     Säge
        axe         axes         hache        hacha      Axt
        knife       knives       couteau      cuchillo   Messer
        drill       drills       perceuse     taladro    Bohrer
        shovel      shovels      pelle        pala       Schaufel
        rake        rakes        râteau       rastrillo  Rechen
        brush       brushes      brosse       cepillo    Bürste
        ladder      ladders      échelle      escalera   Leiter
        needle      needles      aiguille     aguja      Nadel
        bucket      buckets      seau         cubo       Eimer
        broom       brooms       balai        escoba     Besen
        chisel      chisels      ciseau       cincel     Meißel
    """,
    "place": """
        house       houses       maison       casa       Haus
        school      schools      école        escuela    Schule
        church      churches     église       iglesia    Kirche
        bridge      bridges      pont         puente     Brücke
        beach       beaches      plage        playa      Strand
        forest      forests      forêt        bosque     Wald
        kitchen     kitchens     cuisine      cocina     Küche
        street      streets      rue          calle      Straße
        market      markets      marché       mercado    Markt
        farm        farms        ferme        granja     Bauernhof
        library     libraries    bibliothèque biblioteca Bibliothek
        city        cities       ville        ciudad     Stadt
    """,
    "body": """
        head        heads        tête         cabeza     Kopf
        eye         eyes         œil          ojo        Auge
        ear         ears         oreille      oreja      Ohr
        nose        noses        nez          nariz      Nase
        mouth       mouths       bouche       boca       Mund
        tooth       teeth        dent         diente     Zahn
        foot        feet         pied         pie        Fuß
        leg         legs         jambe        pierna     Bein
        neck        necks        cou          cuello     Hals
        shoulder    shoulders    épaule       hombro     Schulter
        knee        knees        genou        rodilla    Knie
        tongue      tongues      langue       lengua     Zunge
    """,
    "cloth": """
        shirt       shirts       chemise      camisa     Hemd
        dress       dresses      robe         vestido    Kleid
        skirt       skirts       jupe         falda      Rock
        hat         hats         chapeau      sombrero   Hut
        scarf       scarves      écharpe      bufanda    Schal
        glove       gloves       gant         guante     Handschuh
        shoe        shoes        chaussure    zapato     Schuh
        sock        socks        chaussette   calcetín   Socke
        coat        coats        manteau      abrigo     Mantel
        belt        belts        ceinture     cinturón   Gürtel
        boot        boots        botte        bota       Stiefel
        apron       aprons       tablier      delantal   Schürze
    """,
}

KINDS = tuple(TABLES)

WORDS = {
    line.split()[0]: Word._make([*line.split(), kind])
    for kind, table in TABLES.items()
    for line in table.strip().splitlines()
}


def _partners() -> dict[str, str]:
    """Within each kind the words stand in a fixed random ring; a word's partner is the next one."""
    partners: dict[str, str] = {}
    for kind in KINDS:
        ring = [word for word, entry in WORDS.items() if entry.kind == kind]
        Random(f"partner {kind}").shuffle(ring)
        partners |= zip(ring, ring[1:] + ring[:1], strict=True)
    return partners


PARTNERS = _partners()
