"""The nouns of the scenes: each with its sprites (single-codepoint emoji) and its family.

Several sprites for one noun make "a cat" truly ambiguous; the family is a vaguer word for each of
its nouns. This module holds the list and knows nothing of colours, captions or pictures.
"""

_FAMILIES = {
    "animal": """
        cat=🐈🐱 dog=🐕🐩🐶 monkey=🐒🐵 gorilla=🦍 wolf=🐺 fox=🦊 raccoon=🦝 lion=🦁 tiger=🐅🐯
        leopard=🐆 horse=🐎🐴 unicorn=🦄 zebra=🦓 deer=🦌 bison=🦬 cow=🐄🐮 buffalo=🐃 pig=🐖🐷
        boar=🐗 sheep=🐑🐏 goat=🐐 camel=🐪🐫 llama=🦙 giraffe=🦒 elephant=🐘 mammoth=🦣
        rhinoceros=🦏 hippopotamus=🦛 mouse=🐁🐭 hamster=🐹 rabbit=🐇🐰 squirrel=🐿 beaver=🦫
        hedgehog=🦔 bat=🦇 bear=🐻 koala=🐨 panda=🐼 sloth=🦥 otter=🦦 skunk=🦨 kangaroo=🦘
        badger=🦡 frog=🐸 crocodile=🐊 turtle=🐢 lizard=🦎 snake=🐍 dragon=🐉 dinosaur=🦕🦖
        whale=🐋🐳 dolphin=🐬 seal=🦭 fish=🐟🐠🐡 shark=🦈 octopus=🐙 snail=🐌 crab=🦀 lobster=🦞
        shrimp=🦐 squid=🦑
    """,
    "bird": """
        turkey=🦃 chicken=🐔🐓 chick=🐤🐥🐣 penguin=🐧 dove=🕊 eagle=🦅 duck=🦆 swan=🦢 owl=🦉
        dodo=🦤 flamingo=🦩 peacock=🦚 parrot=🦜
    """,
    "insect": """
        butterfly=🦋 caterpillar=🐛 ant=🐜 bee=🐝 ladybug=🐞 cricket=🦗 spider=🕷 scorpion=🦂
        mosquito=🦟
    """,
    "plant": """
        rose=🌹 sunflower=🌻 tulip=🌷 hibiscus=🌺 bouquet=💐 tree=🌳🌲 cactus=🌵 clover=🍀
        mushroom=🍄
    """,
    "fruit": """
        watermelon=🍉 orange=🍊 lemon=🍋 banana=🍌 pineapple=🍍 mango=🥭 apple=🍎🍏 pear=🍐 peach=🍑
        strawberry=🍓 kiwi=🥝 tomato=🍅 coconut=🥥
    """,
    "vegetable": """
        avocado=🥑 eggplant=🍆 potato=🥔 carrot=🥕 pepper=🌶🫑 cucumber=🥒 onion=🧅
    """,
    "food": """
        croissant=🥐 pretzel=🥨 bagel=🥯 waffle=🧇 hamburger=🍔 pizza=🍕 hotdog=🌭 sandwich=🥪
        taco=🌮 egg=🥚 donut=🍩 cookie=🍪 cake=🎂🍰 cupcake=🧁 pie=🥧 lollipop=🍭 dumpling=🥟
    """,
    "vehicle": """
        train=🚂🚆 tram=🚊 bus=🚌🚍 ambulance=🚑 taxi=🚕🚖 car=🚗🚘🚙 truck=🚚🚛🛻 tractor=🚜
        motorcycle=🏍 scooter=🛵🛴 bicycle=🚲 airplane=✈🛩 helicopter=🚁 rocket=🚀 sailboat=⛵
        canoe=🛶 speedboat=🚤 ship=🚢🛳
    """,
    "building": """
        house=🏠🏡 hospital=🏥 factory=🏭 castle=🏰🏯 church=⛪ tent=⛺ fountain=⛲ tower=🗼
    """,
    "instrument": """
        saxophone=🎷 accordion=🪗 guitar=🎸 trumpet=🎺 violin=🎻 banjo=🪕 drum=🥁
    """,
    "toy": """
        football=⚽ basketball=🏀 volleyball=🏐 kite=🪁 dice=🎲 teddy=🧸 balloon=🎈 gift=🎁
    """,
    "clothing": """
        shirt=👕 dress=👗 kimono=👘 scarf=🧣 coat=🧥 sock=🧦 handbag=👜 backpack=🎒 boot=🥾👢
        sneaker=👟 crown=👑 hat=🎩👒
    """,
    "tool": """
        hammer=🔨 axe=🪓 wrench=🔧 screwdriver=🪛 magnet=🧲 ladder=🪜 microscope=🔬 telescope=🔭
        key=🔑🗝 umbrella=☂
    """,
    "object": """
        chair=🪑 bed=🛏 sofa=🛋 bathtub=🛁 bucket=🪣 teapot=🫖 book=📕📗📘 candle=🕯 lantern=🏮
        camera=📷 television=📺 computer=💻🖥 phone=📱 clock=⏰🕰 watch=⌚ bell=🔔 trophy=🏆 gem=💎
        globe=🌍🌎 lock=🔒
    """,
}

_ITEMS = [
    (family, *item.split("=")) for family, items in _FAMILIES.items() for item in items.split()
]

SPRITES: dict[str, tuple[str, ...]] = {noun: tuple(sprites) for _, noun, sprites in _ITEMS}
FAMILIES: dict[str, str] = {noun: family for family, noun, _ in _ITEMS}
