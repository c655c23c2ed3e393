"""English."""

from __future__ import annotations

from flows.demo.words.language import Language, Names

ENGLISH = Language(
    first_names=Names(
        known=("Emma", "Oliver", "Grace", "Liam", "Priya", "Noah", "Sydney", "Austin", "Florence", "Marcus", "Chloe",
               "Ibrahim", "Hannah", "Wei", "Tom", "Aisha", "Victoria", "Jordan"),
        unseen=("Beatrix", "Desmond", "Imogen", "Kwame", "Rosalind", "Tobias"),
    ),
    last_names=Names(
        known=("Walker", "Okafor", "Singh", "O'Brien", "Chen", "Harris", "London", "Murphy", "Brooks", "Patel",
               "Young"),
        unseen=("Abernathy", "Lockwood", "Nakamura", "Whitfield"),
    ),
    cities=Names(
        known=("Leeds", "Austin", "Boston", "Dublin", "Cardiff", "New York", "Florence", "Sydney", "Toronto",
               "Glasgow", "San Diego", "Bath", "Reading", "Melbourne", "Victoria", "Cape Town"),
        unseen=("Aberdeen", "Galway", "Pittsburgh", "Wellington", "Salt Lake City", "Norwich"),
    ),
    subject="the {PRODUCT}",
    aspects=("the battery", "the sound", "the charger", "the app", "the microphone", "the Bluetooth connection",
             "the power button", "the case", "the volume control", "the cable", "the fast charging",
             "the noise filter"),
    screen_aspects=("the screen", "the camera", "the touch response", "the brightness"),
    positive=(
        ("is lovely", "is not exactly lovely"), ("convinces me", "does not convince me"),
        ("is a joy", "is anything but a joy"), ("works perfectly", "never works perfectly"),
        ("is worth every penny", "is not worth a penny"), ("made my day", "hardly made my day"),
        ("is a real step forward", "is no step forward"), ("impresses everyone", "impresses nobody"),
        ("lives up to the hype", "does not live up to the hype"),
    ),
    negative=(
        ("ruined it for me", "ruined nothing for me"), ("let me down", "never let me down"),
        ("is a disappointment", "is no disappointment"), ("gave up after a week", "has not given up once"),
        ("drives me mad", "does not drive me mad any more"),
        ("is a waste of money", "is not a waste of money at all"), ("causes trouble every day", "causes no trouble"),
        ("feels cheap", "does not feel cheap"), ("failed twice", "has not failed yet"),
    ),
    neutral=("is about average", "is as it was on my old one", "is neither good nor bad",
             "does what it says on the box", "is as described", "is fine, nothing more", "is what you would expect",
             "is hard to judge after two days"),
    contrasts=("{a} but {b}", "{a}, yet {b}", "I admit that {a}; even so, {b}",
               "{a}, which hardly matters because {b}", "{b}, and that outweighs one thing: {a}",
               "{b}, even though {a}"),
    balances=("{a}, but then again {b}", "on the one hand {a}, on the other hand {b}", "{a} while {b}"),
    leads=("Honestly, ", "After two weeks, ", "To be fair, ", "So far, ", "Compared with my old one, ", "In short: ",
           "For me, ", "No question: "),
    openers=("I bought the {PRODUCT} in {CITY} last month.", "My {PRODUCT} arrived on Tuesday.",
             "Got this for my cousin {PERSON}.", "{PERSON} recommended the {PRODUCT} to me.",
             "We ordered the {PRODUCT} for {PERSON}, who moved to {CITY}.", "This is my second {PRODUCT}.",
             "Picked up a {PRODUCT} at a shop in {CITY}.", "{PERSON} gave me a {PRODUCT} for my birthday.",
             "Replaced my old {PRODUCT} with the {PRODUCT}.", "Writing this on the train to {CITY}."),
    asides=("{PERSON} from the shop in {CITY} answered my mail.", "I use it on the way from {CITY} to {CITY}.",
            "At the office, {PERSON} has the {PRODUCT}.", "{PERSON} and {PERSON} have one too.",
            "It was sent from {CITY} with DHL.", "{PERSON} tried it for a weekend in {CITY}.",
            "Before this I had a {PRODUCT}.", "The repair centre is in {CITY}.", "I spoke to {PERSON} on the phone.",
            "{PERSON}'s old {PRODUCT} is still in the drawer.", "My flat in {CITY} is small."),
    fillers=("It came with a USB-C cable.", "I charged it overnight.", "The box was grey.",
             "It has been two weeks now.", "I use it on weekdays, mostly in the morning.",
             "There are three colours to choose from.", "The manual comes in twelve languages.",
             "I read a dozen reviews before ordering.", "It weighs about as much as a book.",
             "The update in March took ten minutes.", "My desk is next to the window.", "You need an account."),
    verdicts={
        "positive": ("I would buy it again.", "Five stars.", "Highly recommended!", "I am keeping it.",
                     "I did not send it back, and I won't.", "Buy it!"),
        "neutral": ("Three stars, no more, no less.", "It is okay.", "I may or may not buy it again.",
                    "Ask me again in a year.", "It does the job."),
        "negative": ("I would not buy it again.", "One star.", "Sent it back.", "I want my money back!",
                     "I am not keeping it.", "Do not buy it!"),
    },
)  # fmt: skip
