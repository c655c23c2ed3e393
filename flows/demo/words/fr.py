"""French."""

from __future__ import annotations

from flows.demo.words.language import Language, Names

FRENCH = Language(
    first_names=Names(
        known=("Camille", "Hugo", "Zoé", "Amélie", "Karim", "Élodie", "Théo", "Manon", "Gérard", "Inès", "Baptiste",
               "Fatou", "Florence", "Loïc"),
        unseen=("Guillemette", "Honoré", "Solange", "Yannick"),
    ),
    last_names=Names(
        known=("Lefèvre", "Moreau", "Benali", "Girard", "Paris", "N'Diaye", "Rousseau", "Lemaître"),
        unseen=("Castagnier", "Haddad", "Vasseur"),
    ),
    cities=Names(
        known=("Lyon", "Nantes", "Bordeaux", "Genève", "Strasbourg", "Nice", "Besançon", "Bruxelles", "Tours",
               "Orléans", "Aix-en-Provence", "La Rochelle"),
        unseen=("Angoulême", "Perpignan", "Lausanne", "Chambéry"),
    ),
    subject="le modèle {PRODUCT}",
    aspects=("la batterie", "le son", "le chargeur", "l'application", "le micro", "la connexion Bluetooth",
             "le bouton", "le boîtier", "le réglage du volume", "le câble", "la charge rapide",
             "la réduction de bruit"),
    screen_aspects=("l'écran", "l'appareil photo", "la luminosité", "le tactile"),
    positive=(
        ("me convainc", "ne me convainc pas"), ("est un vrai plaisir", "n'est pas un plaisir"),
        ("tient ses promesses", "ne tient pas ses promesses"), ("est une merveille", "n'a rien d'une merveille"),
        ("marche à la perfection", "ne marche jamais à la perfection"), ("vaut son prix", "ne vaut pas son prix"),
        ("est formidable", "est loin d'être formidable"),
    ),
    negative=(
        ("me déçoit", "ne me déçoit jamais"), ("est une catastrophe", "n'a rien d'une catastrophe"),
        ("laisse à désirer", "ne laisse rien à désirer"), ("pose problème chaque jour", "ne pose aucun problème"),
        ("fait vraiment camelote", "ne fait pas du tout camelote"), ("m'énerve", "ne m'énerve jamais"),
        ("a lâché au bout d'une semaine", "n'a pas lâché une seule fois"),
    ),
    neutral=("est dans la moyenne", "correspond à la description", "est comme sur l'ancien",
             "fait ce qu'on lui demande", "n'est ni bien ni mal", "est correct, sans plus",
             "reste difficile à juger"),
    contrasts=("{a} mais {b}", "certes {a}, pourtant {b}", "{a}, ce qui compte peu car {b}",
               "{b}, et cela compte plus qu'une chose : {a}", "{b}, même si {a}"),
    balances=("d'un côté {a}, de l'autre {b}", "{a}, en revanche {b}", "{a} tandis que {b}"),
    leads=("Franchement, ", "Après deux semaines, ", "En bref : ", "Pour moi, ", "À mon avis, ", "Rien à dire : "),
    openers=("J'ai acheté le {PRODUCT} à {CITY} le mois dernier.", "Mon {PRODUCT} est arrivé mardi.",
             "C'était un cadeau pour {PERSON}.", "{PERSON} m'a conseillé le {PRODUCT}.",
             "Commandé pour {PERSON}, qui habite à {CITY}.", "C'est mon deuxième {PRODUCT}.",
             "Trouvé dans une boutique à {CITY}.", "J'écris ceci dans le train pour {CITY}."),
    asides=("{PERSON}, de la boutique à {CITY}, m'a répondu.", "Je l'utilise entre {CITY} et {CITY}.",
            "Au bureau, {PERSON} a aussi le {PRODUCT}.", "Le colis a été expédié depuis {CITY}.",
            "{PERSON} et {PERSON} ont le même.", "Avant, j'avais un {PRODUCT}.", "J'ai eu {PERSON} au téléphone.",
            "Le réparateur est à {CITY}."),
    fillers=("Un câble USB-C est fourni.", "Je l'ai chargé pendant la nuit.", "La boîte était grise.",
             "Cela fait deux semaines.", "Il existe en trois couleurs.", "La notice est en douze langues.",
             "Je m'en sers surtout le matin.", "La mise à jour de mars a pris dix minutes.", "Il faut un compte.",
             "Il pèse à peu près autant qu'un livre."),
    verdicts={
        "positive": ("Je le rachèterais.", "Je recommande !", "Cinq étoiles.", "Je le garde.", "Achetez-le !"),
        "neutral": ("Trois étoiles, ni plus ni moins.", "Ça va.", "Il fait le travail.", "À revoir dans un an."),
        "negative": ("Je ne le rachèterais pas.", "Je ne recommande pas !", "Une étoile.", "Retour à l'envoyeur.",
                     "Ne l'achetez pas !"),
    },
)  # fmt: skip
