"""Spanish."""

from __future__ import annotations

from flows.demo.words.language import Language, Names

SPANISH = Language(
    first_names=Names(
        known=("Lucía", "Mateo", "Íñigo", "Carmen", "Javier", "Valentina", "Andrés", "Begoña", "Diego", "Sofía",
               "Ramón", "Victoria", "Santiago"),
        unseen=("Eulalia", "Fermín", "Leocadia", "Nicanor"),
    ),
    last_names=Names(
        known=("García", "Muñoz", "Ibáñez", "Toledo", "Quiroga", "Peña", "Fernández", "Vega"),
        unseen=("Zubizarreta", "Escudero", "Mondragón"),
    ),
    cities=Names(
        known=("Madrid", "Sevilla", "Bilbao", "Córdoba", "Bogotá", "Toledo", "Santiago", "Cádiz", "Valencia",
               "Buenos Aires", "León", "Quito"),
        unseen=("Zaragoza", "Guadalajara", "Montevideo", "Cartagena"),
    ),
    subject="el {PRODUCT}",
    aspects=("la batería", "el sonido", "el cargador", "la aplicación", "el micrófono", "la conexión Bluetooth",
             "el botón", "la carcasa", "el control de volumen", "el cable", "la carga rápida", "el filtro de ruido"),
    screen_aspects=("la pantalla", "la cámara", "el brillo", "el panel táctil"),
    positive=(
        ("me convence", "no me convence"), ("es una maravilla", "no es ninguna maravilla"),
        ("funciona de lujo", "nunca funciona de lujo"), ("vale lo que cuesta", "no vale lo que cuesta"),
        ("me encanta", "no me encanta en absoluto"), ("cumple lo que promete", "no cumple lo que promete"),
        ("es excelente", "dista de ser excelente"),
    ),
    negative=(
        ("me decepciona", "nunca me decepciona"), ("es un desastre", "no es ningún desastre"),
        ("deja mucho que desear", "no deja nada que desear"), ("da problemas a diario", "no da ningún problema"),
        ("falla cada dos por tres", "no ha fallado ni una vez"), ("me saca de quicio", "ya no me saca de quicio"),
        ("lo estropea todo", "no estropea nada"),
    ),
    neutral=("está en la media", "es como en el anterior", "coincide con la descripción", "no es ni bueno ni malo",
             "es normal, sin más", "hace lo que dice la caja", "todavía es difícil de juzgar"),
    contrasts=("{a} pero {b}", "es verdad que {a}; aun así, {b}", "{a}, aunque poco importa porque {b}",
               "{b}, y eso pesa más que una cosa: {a}", "{b}, aunque {a}"),
    balances=("por un lado {a}, por otro {b}", "{a}, en cambio {b}", "{a} mientras que {b}"),
    leads=("Sinceramente, ", "Después de dos semanas, ", "En resumen: ", "Para mí, ", "De momento, ", "Sin duda: "),
    openers=("Compré el {PRODUCT} en {CITY} el mes pasado.", "Mi {PRODUCT} llegó el martes.",
             "Fue un regalo para {PERSON}.", "{PERSON} me recomendó el {PRODUCT}.",
             "Lo pedí para {PERSON}, que vive en {CITY}.", "Este es mi segundo {PRODUCT}.",
             "Lo encontré en una tienda de {CITY}.", "Escribo esto en el tren a {CITY}."),
    asides=("{PERSON}, de la tienda de {CITY}, me contestó.", "Lo uso entre {CITY} y {CITY}.",
            "En la oficina, {PERSON} también tiene el {PRODUCT}.", "Lo enviaron desde {CITY}.",
            "{PERSON} y {PERSON} tienen lo mismo.", "Antes tenía un {PRODUCT}.", "Hablé con {PERSON} por teléfono.",
            "El taller está en {CITY}."),
    fillers=("Trae un cable USB-C.", "Lo cargué por la noche.", "La caja era gris.", "Ya han pasado dos semanas.",
             "Hay tres colores.", "El manual viene en doce idiomas.", "Lo uso sobre todo por la mañana.",
             "La actualización de marzo tardó diez minutos.", "Hace falta una cuenta.",
             "Pesa más o menos como un libro."),
    verdicts={
        "positive": ("Lo volvería a comprar.", "¡Lo recomiendo!", "Cinco estrellas.", "Me lo quedo.", "¡Cómpralo!"),
        "neutral": ("Tres estrellas, ni más ni menos.", "Está bien.", "Hace su trabajo.", "Ya veremos en un año."),
        "negative": ("No lo volvería a comprar.", "¡No lo recomiendo!", "Una estrella.", "Lo devolví.",
                     "¡No lo compres!"),
    },
)  # fmt: skip
