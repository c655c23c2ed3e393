"""Italian."""

from __future__ import annotations

from flows.demo.words.language import Language, Names

ITALIAN = Language(
    first_names=Names(
        known=("Giulia", "Matteo", "Chiara", "Niccolò", "Francesca", "Luca", "Elisa", "Salvatore", "Noemi", "Davide",
               "Anna", "Vittoria"),
        unseen=("Ermenegilda", "Fiorenzo", "Ludovica", "Oreste"),
    ),
    last_names=Names(
        known=("Rossi", "Esposito", "D'Angelo", "Ferrari", "Milano", "Colombo", "Russo", "Marchetti"),
        unseen=("Bevilacqua", "Quattrocchi", "Sorrentino"),
    ),
    cities=Names(
        known=("Roma", "Milano", "Torino", "Napoli", "Forlì", "Trieste", "Genova", "Lucca", "Palermo", "La Spezia",
               "Como"),
        unseen=("Bergamo", "Siracusa", "Reggio Emilia", "Udine"),
    ),
    subject="il nuovo {PRODUCT}",
    aspects=("la batteria", "il suono", "il caricatore", "l'app", "il microfono", "la connessione Bluetooth",
             "il pulsante", "la custodia", "il controllo del volume", "il cavo", "la ricarica rapida",
             "il filtro del rumore"),
    screen_aspects=("lo schermo", "la fotocamera", "la luminosità", "il touch"),
    positive=(
        ("mi convince", "non mi convince"), ("è una meraviglia", "non è certo una meraviglia"),
        ("funziona benissimo", "non funziona mai benissimo"), ("vale ogni centesimo", "non vale un centesimo"),
        ("mi piace tanto", "non mi piace affatto"), ("mantiene le promesse", "non mantiene le promesse"),
        ("è eccellente", "è tutt'altro che eccellente"),
    ),
    negative=(
        ("mi delude", "non mi delude mai"), ("è un disastro", "non è affatto un disastro"),
        ("lascia a desiderare", "non lascia nulla a desiderare"),
        ("dà problemi ogni giorno", "non dà alcun problema"), ("mi fa impazzire", "non mi fa più impazzire"),
        ("ha rovinato tutto", "non ha rovinato niente"), ("è una fregatura", "non è una fregatura, anzi"),
    ),
    neutral=("è nella media", "è come nel modello vecchio", "corrisponde alla descrizione", "non è né bene né male",
             "va bene, niente di più", "fa quel che deve", "è ancora difficile da giudicare"),
    contrasts=("{a} ma {b}", "è vero che {a}; eppure {b}", "{a}, il che conta poco perché {b}",
               "{b}, e questo pesa più di una cosa: {a}", "{b}, anche se {a}"),
    balances=("da un lato {a}, dall'altro {b}", "{a}, in compenso {b}", "{a} mentre {b}"),
    leads=("Sinceramente, ", "Dopo due settimane ", "In breve: ", "Per me ", "A mio parere ", "Per ora "),
    openers=("Ho comprato il nuovo {PRODUCT} a {CITY} il mese scorso.", "Il mio {PRODUCT} è arrivato martedì.",
             "Era un regalo per {PERSON}.", "{PERSON} mi ha consigliato questo {PRODUCT}.",
             "Ordinato per {PERSON}, che abita a {CITY}.", "Questo è il mio secondo {PRODUCT}.",
             "Trovato in un negozio di {CITY}.", "Scrivo dal treno per {CITY}."),
    asides=("{PERSON}, del negozio di {CITY}, mi ha risposto.", "Lo uso tra {CITY} e {CITY}.",
            "In ufficio {PERSON} ha lo stesso {PRODUCT}.", "È stato spedito da {CITY}.",
            "{PERSON} e {PERSON} hanno lo stesso.", "Prima avevo un {PRODUCT}.",
            "Ho parlato con {PERSON} al telefono.", "Il centro riparazioni è a {CITY}."),
    fillers=("C'è un cavo USB-C.", "L'ho caricato di notte.", "La scatola era grigia.", "Sono passate due settimane.",
             "Ci sono tre colori.", "Il manuale è in dodici lingue.", "Lo uso soprattutto la mattina.",
             "L'aggiornamento di marzo ha richiesto dieci minuti.", "Serve un account.",
             "Pesa più o meno come un libro."),
    verdicts={
        "positive": ("Lo ricomprerei.", "Lo consiglio!", "Cinque stelle.", "Me lo tengo.", "Compratelo!"),
        "neutral": ("Tre stelle, né più né meno.", "Va bene così.", "Fa il suo lavoro.",
                    "Ne riparliamo tra un anno."),
        "negative": ("Non lo ricomprerei.", "Non lo consiglio!", "Una stella.", "L'ho rimandato indietro.",
                     "Non compratelo!"),
    },
)  # fmt: skip
