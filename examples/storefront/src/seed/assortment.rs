//! What the shop sells, and who makes it. Everything here is invented.

/// A category and the kinds of things in it.
pub(super) struct Department {
    pub(super) name: &'static str,
    pub(super) kinds: [Kind; 10],
}

/// A kind of thing: its name, its usual price in cents, and a sentence on it.
pub(super) struct Kind(
    pub(super) &'static str,
    pub(super) i64,
    pub(super) &'static str,
);

/// A maker, who offers a version of each kind in some categories.
pub(super) struct Maker {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// The level of the maker's prices; 100 is the usual one.
    pub(super) price_percent: i64,
}

pub(super) static MAKERS: [Maker; 10] = [
    Maker {
        name: "Aldermoor",
        text: "Aldermoor makes everyday things in small series and repairs what it sells.",
        price_percent: 105,
    },
    Maker {
        name: "Brightwell",
        text: "Brightwell keeps it simple: one good version, without the extras nobody uses.",
        price_percent: 80,
    },
    Maker {
        name: "Corvid & Sons",
        text: "Corvid & Sons has done nothing else for three generations, and it shows.",
        price_percent: 140,
    },
    Maker {
        name: "Dunfell",
        text: "Dunfell builds for rough weather and daily use; spare parts stay in stock for ten years.",
        price_percent: 115,
    },
    Maker {
        name: "Élan",
        text: "Élan is a young studio that cares as much for how a thing feels as for what it does.",
        price_percent: 125,
    },
    Maker {
        name: "Fernhollow",
        text: "Fernhollow uses recycled and renewable materials wherever they last as long.",
        price_percent: 110,
    },
    Maker {
        name: "Greyling",
        text: "Greyling is the sensible choice: solid, plain and fairly priced.",
        price_percent: 90,
    },
    Maker {
        name: "Halvorsen",
        text: "Halvorsen draws everything in its own workshop by the fjord. Clean lines, no fuss.",
        price_percent: 135,
    },
    Maker {
        name: "Inkerman",
        text: "Inkerman's \"buy it once\" line carries a guarantee of twenty-five years.",
        price_percent: 150,
    },
    Maker {
        name: "Juniper Lane",
        text: "Juniper Lane offers cheerful colours at a small price.",
        price_percent: 75,
    },
];

pub(super) static ASSORTMENT: [Department; 20] = [
    Department {
        name: "Kitchen Knives & Boards",
        kinds: [
            Kind(
                "Chef's Knife",
                6900,
                "A 20 cm blade with enough weight to do half the work for you.",
            ),
            Kind(
                "Paring Knife",
                1900,
                "Short, light and nimble, for everything you peel in your hand.",
            ),
            Kind(
                "Bread Knife",
                3900,
                "Long serrations that get through a crust without crushing the crumb.",
            ),
            Kind(
                "Santoku",
                7400,
                "A flat, wide blade for fine slices that do not stick.",
            ),
            Kind(
                "Carving Set",
                8900,
                "A slim knife and a two-pronged fork for the Sunday roast.",
            ),
            Kind(
                "Oak Chopping Board",
                4400,
                "End-grain oak that is kind to edges and heals its own scars.",
            ),
            Kind(
                "Bamboo Cutting Board",
                2200,
                "Thin and light, with a groove that keeps the juice on the board.",
            ),
            Kind(
                "Knife Block",
                5900,
                "Holds six knives upright, without slots that gather crumbs.",
            ),
            Kind(
                "Whetstone",
                3400,
                "Two sides, 1000 and 3000 grit, with a base that does not slip.",
            ),
            Kind(
                "Kitchen Scissors",
                1700,
                "They come apart for washing and cut through a chicken's back.",
            ),
        ],
    },
    Department {
        name: "Pots & Pans",
        kinds: [
            Kind(
                "Cast Iron Skillet",
                4900,
                "Heavy, slow to heat and slow to cool: made for a real sear.",
            ),
            Kind(
                "Non-Stick Frying Pan",
                3600,
                "A 28 cm pan from which an egg slides by itself.",
            ),
            Kind(
                "Carbon Steel Wok",
                5400,
                "Thin steel and a long handle, for high heat and quick hands.",
            ),
            Kind(
                "Saucepan with Lid",
                3900,
                "Two litres, marked on the inside, with a rim that pours cleanly.",
            ),
            Kind(
                "Stock Pot",
                6400,
                "Ten litres for soups, pasta and a feast of mussels.",
            ),
            Kind(
                "Enamelled Casserole",
                11_900,
                "Goes from the hob to the oven to the table.",
            ),
            Kind(
                "Grill Pan",
                4300,
                "High ridges that leave stripes and let the fat run off.",
            ),
            Kind(
                "Steamer Insert",
                2100,
                "Folds to fit pots from 18 to 26 cm.",
            ),
            Kind(
                "Roasting Tin",
                3300,
                "With a rack, so that the heat reaches the underside too.",
            ),
            Kind(
                "Milk Pan",
                1900,
                "A litre of milk, a pouring lip on both sides.",
            ),
        ],
    },
    Department {
        name: "Baking",
        kinds: [
            Kind(
                "Springform Tin",
                1800,
                "26 cm across, with a base that does not leak.",
            ),
            Kind("Loaf Tin", 1500, "Straight sides for tall, even slices."),
            Kind(
                "Muffin Tray",
                1700,
                "Twelve cups that let go of what they hold.",
            ),
            Kind(
                "Rolling Pin",
                1900,
                "Turned from one piece of beech, long enough for a whole sheet of dough.",
            ),
            Kind(
                "Proofing Basket",
                1600,
                "Cane that gives a sourdough its rings.",
            ),
            Kind(
                "Kitchen Scale",
                2900,
                "To the gram up to five kilos, and back to zero at a touch.",
            ),
            Kind(
                "Mixing Bowl Set",
                3400,
                "Three bowls that nest, with lids and feet that grip.",
            ),
            Kind(
                "Pastry Brush",
                900,
                "Natural bristles that hold their glaze and stay in.",
            ),
            Kind(
                "Crème Brûlée Torch",
                2700,
                "A blue flame and a lock that children do not open.",
            ),
            Kind(
                "Cooling Rack",
                1300,
                "Fine mesh, so that small biscuits do not fall through.",
            ),
        ],
    },
    Department {
        name: "Coffee & Tea",
        kinds: [
            Kind(
                "Hand Grinder",
                7900,
                "Steel burrs and clear steps from espresso to French press.",
            ),
            Kind("French Press", 3200, "One litre with a fine double sieve."),
            Kind(
                "Pour-Over Set",
                2800,
                "A dripper and a carafe that fit each other.",
            ),
            Kind(
                "Moka Pot",
                2900,
                "Six small cups from any hob, induction included.",
            ),
            Kind(
                "Gooseneck Kettle",
                5900,
                "A slow, thin stream exactly where you point it.",
            ),
            Kind(
                "Teapot",
                3600,
                "Holds four cups and does not drip on the cloth.",
            ),
            Kind(
                "Tea Infuser",
                900,
                "Room for the leaves to open, and a lid that stays shut.",
            ),
            Kind("Milk Frother", 3300, "Warm or cold foam in under a minute."),
            Kind(
                "Espresso Cup Pair",
                1900,
                "Thick walls that keep a small coffee hot.",
            ),
            Kind(
                "Coffee Canister",
                2400,
                "Presses the air out as the lid goes down.",
            ),
        ],
    },
    Department {
        name: "Tableware",
        kinds: [
            Kind(
                "Dinner Plate Set",
                4900,
                "Four plates with a raised rim, fit for the dishwasher.",
            ),
            Kind(
                "Soup Bowl Set",
                3900,
                "Four deep bowls that stack without scratching.",
            ),
            Kind(
                "Cutlery Set",
                6900,
                "Twenty-four pieces in brushed steel, for six.",
            ),
            Kind(
                "Wine Glass Set",
                4200,
                "Six glasses, thin at the rim and steady on the foot.",
            ),
            Kind(
                "Tumbler Set",
                2400,
                "Six glasses that survive a fall into the sink.",
            ),
            Kind(
                "Serving Platter",
                2900,
                "A long oval for fish, cake or cheese.",
            ),
            Kind(
                "Salad Bowl",
                3400,
                "Wide enough to toss in without losing half of it.",
            ),
            Kind(
                "Water Carafe",
                2200,
                "A litre, with a lid that keeps the ice back.",
            ),
            Kind("Napkin Set", 1900, "Six napkins in washed linen."),
            Kind(
                "Salt & Pepper Mills",
                3700,
                "Ceramic grinders that leave no dust on the table.",
            ),
        ],
    },
    Department {
        name: "Bedding",
        kinds: [
            Kind(
                "Linen Duvet Cover",
                11_900,
                "Washed flax, cool in summer and warm in winter.",
            ),
            Kind(
                "Cotton Sheet",
                4400,
                "Percale with a deep pocket that stays on the mattress.",
            ),
            Kind(
                "Down Pillow",
                6900,
                "Soft outside, firm in its core, easy to shape.",
            ),
            Kind(
                "Wool Blanket",
                8900,
                "Thick, even weave with whipped edges.",
            ),
            Kind("Summer Duvet", 7400, "Light as a sheet, and it breathes."),
            Kind(
                "Mattress Protector",
                3900,
                "Keeps spills out, and does not rustle.",
            ),
            Kind(
                "Silk Pillowcase",
                3400,
                "Smooth on hair and skin, with a hidden zip.",
            ),
            Kind(
                "Bed Throw",
                5400,
                "A waffle weave that gets softer with each wash.",
            ),
            Kind(
                "Body Pillow",
                4900,
                "As long as you are, with a cover that comes off.",
            ),
            Kind(
                "Hot Water Bottle",
                1900,
                "With a knitted cover that keeps the heat in until morning.",
            ),
        ],
    },
    Department {
        name: "Bath",
        kinds: [
            Kind(
                "Bath Towel",
                2400,
                "Heavy loops of long-staple cotton that dry you at once.",
            ),
            Kind(
                "Hand Towel Pair",
                1700,
                "Two towels with a loop to hang them by.",
            ),
            Kind(
                "Bath Mat",
                2200,
                "Thick underfoot, and stays where it lies.",
            ),
            Kind(
                "Bathrobe",
                6400,
                "Knee length, with deep pockets and a collar.",
            ),
            Kind(
                "Shower Curtain",
                2600,
                "Woven, with a weighted hem that does not cling.",
            ),
            Kind(
                "Soap Dish",
                1100,
                "Drains by itself, so that the soap lasts.",
            ),
            Kind(
                "Toothbrush Tumbler",
                900,
                "Open at the bottom, easy to rinse.",
            ),
            Kind(
                "Laundry Basket",
                3900,
                "Woven, with a cotton bag that you carry to the machine.",
            ),
            Kind(
                "Bath Caddy",
                3200,
                "Reaches across the tub: a book, a candle, a cup.",
            ),
            Kind(
                "Shaving Mirror",
                2900,
                "Plain on one side, five times as large on the other.",
            ),
        ],
    },
    Department {
        name: "Lighting",
        kinds: [
            Kind(
                "Desk Lamp",
                6400,
                "An arm that stays where it is put, and light without glare.",
            ),
            Kind(
                "Floor Lamp",
                12_900,
                "Reads over your shoulder and dims to a glow.",
            ),
            Kind(
                "Pendant Light",
                9900,
                "A wide shade that keeps the light on the table.",
            ),
            Kind(
                "Bedside Lamp",
                4400,
                "Three steps at a touch, the lowest for finding slippers.",
            ),
            Kind("Wall Light", 5900, "Turns up, down or to the side."),
            Kind(
                "Reading Light",
                2400,
                "Clips to a book or a headboard and charges by cable.",
            ),
            Kind(
                "String Lights",
                1800,
                "Ten metres of warm white for inside and out.",
            ),
            Kind(
                "Camping Lantern",
                3400,
                "Forty hours on one charge, and a hook to hang it by.",
            ),
            Kind(
                "Night Light",
                1500,
                "Comes on when you pass and goes out when you are gone.",
            ),
            Kind(
                "Lamp Shade",
                2700,
                "Stretched linen on a frame that fits both common sockets.",
            ),
        ],
    },
    Department {
        name: "Garden Tools",
        kinds: [
            Kind(
                "Pruning Shears",
                3400,
                "A bypass cut that heals cleanly, and a sap groove.",
            ),
            Kind(
                "Garden Spade",
                4900,
                "A forged blade with treads for your boots.",
            ),
            Kind(
                "Digging Fork",
                4700,
                "Four tines that lift without slicing worms.",
            ),
            Kind(
                "Hand Trowel",
                1400,
                "Marked in centimetres for bulbs and seedlings.",
            ),
            Kind(
                "Leaf Rake",
                2600,
                "Springy teeth that leave the moss alone.",
            ),
            Kind(
                "Hedge Shears",
                4300,
                "Wavy blades that hold the twig while they cut.",
            ),
            Kind(
                "Watering Can",
                2900,
                "Nine litres, balanced full and empty, with a fine rose.",
            ),
            Kind(
                "Garden Hose",
                3900,
                "Twenty-five metres that do not kink, couplings included.",
            ),
            Kind(
                "Wheelbarrow",
                9400,
                "Deep tray, one tyre that never goes flat.",
            ),
            Kind(
                "Gardening Gloves",
                1300,
                "Long cuffs against roses, thin tips for seeds.",
            ),
        ],
    },
    Department {
        name: "Plants & Pots",
        kinds: [
            Kind(
                "Terracotta Pot",
                1400,
                "Breathes, ages well, and comes with its saucer.",
            ),
            Kind(
                "Glazed Planter",
                3400,
                "Frost-proof, with a hole that you may plug or not.",
            ),
            Kind(
                "Hanging Planter",
                2300,
                "Cotton cord and a bowl that waters from below.",
            ),
            Kind(
                "Herb Box",
                2900,
                "Three herbs on a sill, and scissors to go with them.",
            ),
            Kind("Plant Stand", 4400, "Lifts a large pot to the light."),
            Kind(
                "Propagation Station",
                2100,
                "Five glass tubes in a frame, for cuttings.",
            ),
            Kind(
                "Plant Mister",
                1600,
                "A mist, not a jet, from the first press.",
            ),
            Kind(
                "Self-Watering Pot",
                2700,
                "A float shows how many days of water are left.",
            ),
            Kind(
                "Moss Pole",
                1200,
                "For climbers that want to know where up is.",
            ),
            Kind(
                "Seed Tin",
                1500,
                "Sorted by month, so that nothing is sown too late.",
            ),
        ],
    },
    Department {
        name: "Hand Tools",
        kinds: [
            Kind(
                "Claw Hammer",
                2700,
                "Forged in one piece, with a grip that swallows the blow.",
            ),
            Kind(
                "Screwdriver Set",
                3600,
                "Eight drivers with tips that do not round off.",
            ),
            Kind(
                "Adjustable Spanner",
                2300,
                "A jaw without play, and a scale to set it by.",
            ),
            Kind(
                "Combination Pliers",
                2400,
                "Grip, cut and bend; insulated to 1000 V.",
            ),
            Kind(
                "Hand Saw",
                2600,
                "Cuts on pull and push, straight from the first stroke.",
            ),
            Kind(
                "Tape Measure",
                1500,
                "Eight metres, readable on both sides.",
            ),
            Kind(
                "Spirit Level",
                2900,
                "Sixty centimetres, true to half a millimetre a metre.",
            ),
            Kind(
                "Chisel Set",
                5400,
                "Four chisels that arrive sharp, in a roll.",
            ),
            Kind(
                "Cordless Drill",
                12_900,
                "Two batteries, twenty steps, a light where you need it.",
            ),
            Kind(
                "Tool Bag",
                4900,
                "Stands open by itself, with a floor that takes the wet.",
            ),
        ],
    },
    Department {
        name: "Office & Desk",
        kinds: [
            Kind(
                "Notebook",
                1600,
                "192 dotted pages that lie flat and take ink on both sides.",
            ),
            Kind(
                "Fountain Pen",
                4900,
                "A steel nib that starts at once, every time.",
            ),
            Kind(
                "Ballpoint Pen",
                1900,
                "Brass, with a click you will not use as a toy. Probably.",
            ),
            Kind(
                "Desk Organiser",
                3400,
                "A place for all the things that have none.",
            ),
            Kind(
                "Monitor Stand",
                4400,
                "Brings the screen to eye level, with the keyboard below.",
            ),
            Kind("Desk Mat", 2900, "Felt on cork, warm under the wrists."),
            Kind("Letter Tray", 2400, "Stacks, and shows what lies within."),
            Kind("Paper Shears", 1500, "A long, calm cut."),
            Kind(
                "Wall Calendar",
                1700,
                "A month to a page, and space for what matters.",
            ),
            Kind(
                "Office Chair",
                28_900,
                "Moves with you, and remembers how you like it.",
            ),
        ],
    },
    Department {
        name: "Bags & Luggage",
        kinds: [
            Kind(
                "Backpack",
                8900,
                "Twenty-two litres with a padded sleeve for a laptop.",
            ),
            Kind(
                "Messenger Bag",
                7400,
                "Opens with one hand and closes against rain.",
            ),
            Kind(
                "Weekender",
                11_400,
                "Two nights, one pair of shoes, under any seat.",
            ),
            Kind(
                "Cabin Suitcase",
                14_900,
                "Four quiet wheels and a shell that takes knocks.",
            ),
            Kind(
                "Large Suitcase",
                19_900,
                "Ninety litres, split so that both halves stay shut.",
            ),
            Kind(
                "Tote Bag",
                2900,
                "Heavy canvas with an inside pocket for keys.",
            ),
            Kind("Toiletry Bag", 2700, "Hangs from a hook, and wipes clean."),
            Kind(
                "Packing Cube Set",
                2400,
                "Four cubes that keep socks from wandering.",
            ),
            Kind(
                "Belt Bag",
                3200,
                "Flat under a jacket, wide enough for a passport.",
            ),
            Kind(
                "Luggage Tag",
                1100,
                "Your name inside, a colour you can see from afar outside.",
            ),
        ],
    },
    Department {
        name: "Outdoor & Camping",
        kinds: [
            Kind(
                "Two-Person Tent",
                24_900,
                "Up in four minutes, dry in a storm, under two kilos.",
            ),
            Kind(
                "Sleeping Bag",
                13_900,
                "Comfortable to zero, with a zip that does not snag.",
            ),
            Kind(
                "Sleeping Mat",
                7900,
                "Packs to the size of a bottle and does not rustle.",
            ),
            Kind(
                "Gas Stove",
                4400,
                "Boils a litre in three minutes, even in wind.",
            ),
            Kind(
                "Camping Cookware",
                5400,
                "Two pots and a pan inside each other, with one handle.",
            ),
            Kind(
                "Head Torch",
                3900,
                "Three hundred lumens, red light for the tent.",
            ),
            Kind(
                "Trekking Poles",
                6900,
                "Fold to 36 cm; cork grips for warm hands.",
            ),
            Kind(
                "Insulated Bottle",
                2900,
                "Hot for twelve hours, cold for a day.",
            ),
            Kind("Dry Bag", 1900, "Twenty litres that swim rather than sink."),
            Kind("Hammock", 4900, "With straps that leave the bark alone."),
        ],
    },
    Department {
        name: "Cycling",
        kinds: [
            Kind(
                "Bicycle Helmet",
                7400,
                "Light, aired, and easy to set with one hand.",
            ),
            Kind(
                "Front Light",
                4900,
                "Eighty lux on the road, and none in other people's eyes.",
            ),
            Kind(
                "Rear Light",
                2700,
                "Brakes show; the battery tells you before it is empty.",
            ),
            Kind(
                "Folding Lock",
                7900,
                "A metre of hardened steel that rolls up small.",
            ),
            Kind(
                "Pannier Pair",
                11_900,
                "Forty litres, welded seams, on and off in a second.",
            ),
            Kind(
                "Floor Pump",
                4400,
                "A large gauge, and a head that fits both valves.",
            ),
            Kind(
                "Multi-Tool",
                3400,
                "Sixteen tools and a chain breaker in one hand.",
            ),
            Kind("Bicycle Bell", 1400, "A clear, friendly note."),
            Kind("Saddle", 6900, "Shaped for long days in the plain."),
            Kind(
                "Mudguard Set",
                3600,
                "Long enough for the person behind you.",
            ),
        ],
    },
    Department {
        name: "Fitness",
        kinds: [
            Kind("Yoga Mat", 4400, "Grips when wet, rolls out flat."),
            Kind(
                "Kettlebell",
                4900,
                "Twelve kilos with a smooth, wide handle.",
            ),
            Kind(
                "Dumbbell Pair",
                5900,
                "Two times five kilos that do not roll away.",
            ),
            Kind(
                "Resistance Band Set",
                2400,
                "Five strengths, labelled on the band.",
            ),
            Kind(
                "Skipping Rope",
                1700,
                "Ball bearings and a length you set without tools.",
            ),
            Kind(
                "Foam Roller",
                2900,
                "Firm in the middle, kinder at the ends.",
            ),
            Kind(
                "Pull-Up Bar",
                4300,
                "Holds in the door frame without a screw.",
            ),
            Kind(
                "Exercise Ball",
                2600,
                "Seventy-five centimetres, slow to lose its air.",
            ),
            Kind("Sports Towel", 1500, "Dry again by the time you are home."),
            Kind("Balance Board", 5400, "Harder than it looks."),
        ],
    },
    Department {
        name: "Toys & Games",
        kinds: [
            Kind(
                "Wooden Train Set",
                5900,
                "Forty pieces that join with the track you already have.",
            ),
            Kind(
                "Building Blocks",
                3900,
                "A hundred blocks of beech in a cart.",
            ),
            Kind(
                "Jigsaw Puzzle",
                2200,
                "A thousand pieces, none of them only sky.",
            ),
            Kind(
                "Card Game",
                1400,
                "Learnt in two minutes; the grudges last longer.",
            ),
            Kind(
                "Board Game",
                4200,
                "An hour for two to five, with nobody out early.",
            ),
            Kind(
                "Chess Set",
                6400,
                "Weighted pieces and a board that folds around them.",
            ),
            Kind(
                "Plush Bear",
                2700,
                "Washes at forty degrees, and always looks as if it understood.",
            ),
            Kind(
                "Kite",
                2900,
                "Flies in a light breeze, packs into its own pocket.",
            ),
            Kind("Marble Run", 4400, "Two metres of drops, loops and luck."),
            Kind(
                "Spinning Top",
                900,
                "Turned by hand; more than three minutes on a good throw.",
            ),
        ],
    },
    Department {
        name: "Art & Craft",
        kinds: [
            Kind(
                "Watercolour Set",
                3900,
                "Twenty-four half pans in a tin that is a palette too.",
            ),
            Kind(
                "Sketchbook",
                1700,
                "A hundred pages that take wash without waves.",
            ),
            Kind(
                "Coloured Pencils",
                3200,
                "Thirty-six soft leads that do not break in the sharpener.",
            ),
            Kind("Brush Set", 2600, "Five shapes that keep their point."),
            Kind(
                "Table Easel",
                4900,
                "Folds flat; holds a canvas up to 60 cm.",
            ),
            Kind(
                "Calligraphy Kit",
                3400,
                "Two holders, six nibs, a bottle of ink and a guide.",
            ),
            Kind(
                "Linocut Set",
                2900,
                "Cutters, a roller, ink, and lino for the first mistakes.",
            ),
            Kind(
                "Knitting Needle Set",
                4400,
                "Birch, in eight sizes, in a roll.",
            ),
            Kind(
                "Sewing Kit",
                2700,
                "Everything for a button, a hem and an emergency.",
            ),
            Kind(
                "Modelling Clay",
                1500,
                "Two kilos that dry in air without cracks.",
            ),
        ],
    },
    Department {
        name: "Audio",
        kinds: [
            Kind(
                "Over-Ear Headphones",
                18_900,
                "Quiet where you want it, open where you need it.",
            ),
            Kind(
                "In-Ear Headphones",
                7900,
                "Three sizes of tips, and a case that charges them.",
            ),
            Kind(
                "Bluetooth Speaker",
                8900,
                "More bass than its size allows, and it floats.",
            ),
            Kind(
                "Bookshelf Speakers",
                24_900,
                "A pair for near listening, in real veneer.",
            ),
            Kind(
                "Record Player",
                22_900,
                "Belt drive, a good cartridge, and a preamp you can switch off.",
            ),
            Kind(
                "Kitchen Radio",
                9400,
                "Four buttons for four stations. Nothing else to learn.",
            ),
            Kind(
                "Alarm Clock Radio",
                5900,
                "Wakes you gently, dims by itself.",
            ),
            Kind(
                "Headphone Stand",
                2700,
                "Keeps the cable out of the coffee.",
            ),
            Kind("Audio Cable", 1800, "Two metres, plugs that hold, no hum."),
            Kind(
                "Microphone",
                11_400,
                "For calls and podcasts; hears you and not the fan.",
            ),
        ],
    },
    Department {
        name: "Pets",
        kinds: [
            Kind(
                "Dog Bed",
                6900,
                "Thick foam, a cover for the machine, a rim for the chin.",
            ),
            Kind(
                "Cat Tree",
                8900,
                "Two caves, three platforms, one sisal post of honour.",
            ),
            Kind("Dog Lead", 2400, "Soft in the hand, strong at the hook."),
            Kind(
                "Padded Harness",
                3600,
                "Spreads the pull, closes over the back.",
            ),
            Kind(
                "Feeding Bowl",
                1600,
                "Heavy stoneware that does not travel across the floor.",
            ),
            Kind(
                "Scratching Board",
                1900,
                "Better than the sofa, most cats agree.",
            ),
            Kind("Chew Toy", 1200, "Natural rubber, shaped to hold a treat."),
            Kind(
                "Pet Carrier",
                5400,
                "Aired on all sides and fits under a train seat.",
            ),
            Kind(
                "Grooming Brush",
                1800,
                "Takes the loose hair and leaves the cat.",
            ),
            Kind(
                "Bird Feeder",
                2900,
                "Keeps seed dry and squirrels busy elsewhere.",
            ),
        ],
    },
];
