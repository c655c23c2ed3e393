"""German."""

from __future__ import annotations

from flows.demo.words.language import Language, Names

GERMAN = Language(
    first_names=Names(
        known=("Jonas", "Lena", "Mehmet", "Sabine", "Lukas", "Heike", "Florian", "Jörg", "Anneliese", "Paul",
               "Katharina", "Uwe", "Zeynep", "Björn"),
        unseen=("Gisela", "Henrike", "Ottmar", "Wolfram"),
    ),
    last_names=Names(
        known=("Schneider", "Yılmaz", "Weiß", "Hoffmann", "Krüger", "Berliner", "Vogt", "Lehmann", "Bauer"),
        unseen=("Achterberg", "Kowalczyk", "Sauerwein"),
    ),
    cities=Names(
        known=("Berlin", "München", "Köln", "Leipzig", "Essen", "Wien", "Zürich", "Hannover", "Halle", "Nürnberg",
               "Bad Homburg", "Graz", "Bremen"),
        unseen=("Lübeck", "Regensburg", "Innsbruck", "Wuppertal"),
    ),
    subject="das {PRODUCT}",
    aspects=("der Akku", "der Klang", "das Ladegerät", "die App", "das Mikrofon", "die Bluetooth-Verbindung",
             "der Einschalter", "das Gehäuse", "der Lautstärkeregler", "das Kabel", "die Schnellladung",
             "der Rauschfilter"),
    screen_aspects=("das Display", "die Kamera", "die Bedienung", "die Helligkeit"),
    positive=(
        ("überzeugt mich", "überzeugt mich nicht"), ("macht Freude", "macht keine Freude"),
        ("ist hervorragend", "ist alles andere als hervorragend"), ("ist jeden Cent wert", "ist keinen Cent wert"),
        ("begeistert alle", "begeistert niemanden"),
        ("hält, was versprochen wird", "hält nicht, was versprochen wird"),
        ("funktioniert tadellos", "funktioniert nie tadellos"),
    ),
    negative=(
        ("enttäuscht mich", "enttäuscht mich nie"), ("ist eine Katastrophe", "ist keine Katastrophe, im Gegenteil"),
        ("macht ständig Ärger", "macht keinen Ärger"),
        ("ging nach einer Woche kaputt", "ging bis heute nicht kaputt"), ("nervt jeden Tag", "nervt nie"),
        ("wirkt billig", "wirkt gar nicht billig"), ("ist rausgeworfenes Geld", "ist kein rausgeworfenes Geld"),
    ),
    neutral=("ist durchschnittlich", "ist weder gut noch schlecht", "ist wie beschrieben",
             "ist ganz in Ordnung, mehr nicht", "ist wie beim Vorgänger", "entspricht den Angaben",
             "lässt sich noch schwer beurteilen"),
    contrasts=("{a}, aber {b}", "zugegeben, {a}, doch {b}", "{a}; trotzdem: {b}",
               "{b}, und das wiegt mehr als eines: {a}", "{b}, dabei gilt zugleich: {a}"),
    balances=("einerseits gilt: {a}, andererseits: {b}", "{a}, dafür gilt auch: {b}", "{a}, und zugleich: {b}"),
    leads=("Ehrlich gesagt: ", "Kurz gesagt: ", "Mein Eindruck: ", "Nach zwei Wochen: ", "Fazit bisher: ",
           "Wie gesagt, "),
    openers=("Ich habe das {PRODUCT} im Mai in {CITY} gekauft.", "Mein {PRODUCT} kam am Dienstag an.",
             "Das {PRODUCT} war ein Geschenk für {PERSON}.", "{PERSON} hat mir das {PRODUCT} empfohlen.",
             "Für {PERSON} aus {CITY} bestellt.", "Das ist schon mein zweites {PRODUCT}.",
             "Im Laden in {CITY} habe ich das {PRODUCT} entdeckt.", "Ich schreibe das im Zug nach {CITY}."),
    asides=("{PERSON} vom Laden in {CITY} hat geantwortet.", "Ich nutze es auf der Fahrt von {CITY} nach {CITY}.",
            "Im Büro hat {PERSON} auch das {PRODUCT}.", "Versendet wurde es aus {CITY} mit DHL.",
            "{PERSON} und {PERSON} haben auch eins.", "Vorher hatte ich ein {PRODUCT}.",
            "Am Telefon sprach ich mit {PERSON}.", "Die Werkstatt ist in {CITY}."),
    fillers=("Ein USB-C-Kabel liegt bei.", "Ich habe es über Nacht geladen.", "Der Karton war grau.",
             "Inzwischen sind zwei Wochen vergangen.", "Es gibt drei Farben zur Auswahl.",
             "Die Anleitung ist in zwölf Sprachen gedruckt.", "Ich nutze es meistens morgens vor der Arbeit.",
             "Das Update im März dauerte zehn Minuten.", "Man braucht ein Konto.",
             "Es wiegt etwa so viel wie ein Buch."),
    verdicts={
        "positive": ("Ich würde es wieder kaufen.", "Klare Empfehlung!", "Fünf Sterne.",
                     "Ich gebe es nicht mehr her.", "Kaufen!"),
        "neutral": ("Drei Sterne, nicht mehr und nicht weniger.", "Es ist okay.", "Es tut, was es soll.",
                    "Ob ich es wieder kaufe, weiß ich nicht."),
        "negative": ("Ich würde es nicht wieder kaufen.", "Keine Empfehlung!", "Ein Stern.", "Geht zurück.",
                     "Nicht kaufen!"),
    },
)  # fmt: skip
