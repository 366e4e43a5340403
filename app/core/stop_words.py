"""Words of many languages that say nothing about the subject, the most frequent first.

They tell what language a text is in, and a question does without them. By the name that Snowball
gives the language; a language without a stemmer is here too, because its words must not be taken
for another's.
"""

_LISTS = {
    "english": """the of and to in a is that for it as was with be by on not he his but at are this
        have from or had an they which one you were all her she there would their we him been has
        when who will no more if out so said what up its about into than them can only other new
        some could these two may then do first any my now such like our over me even most made
        after also did many before must through back where much your way well down should because
        each just those how why whom whose does am being under against during between here both
        few own same too very s t don shall us i per upon within please tell give state
        respectively""",
    "german": """der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als
        auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über
        einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei ihr wer was
        wann wo warum welche welcher welches welchen wieviel viele wem wessen eines diese dieser
        dieses kann können hatte waren wurden unter zwischen gegen ich du wir ihre seine seiner
        ihren sowie bzw vom beim""",
    "french": """de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se
        ce il sont avec ou son lui nous comme mais on sa ses aux été cette ces leur entre quand où
        quel quelle quels quelles comment pourquoi combien avait était fut être ont y elle ils
        elles je vous notre nos leurs dont sous après avant sans l d qu n s c j m""",
    "spanish": """de la que el en y a los del se las por un para con no una su al es lo como más o
        pero sus le ha me si sin sobre este ya entre cuando todo esta ser son dos también fue había
        era muy hasta desde está mi porque qué sólo han yo hay cuál cuáles cómo dónde cuándo quién
        quiénes cuántos cuántas cuánto fueron qué ellos esto nos durante""",
    "portuguese": """de a o que e do da em um para com não uma os no se na por mais as dos como mas
        ao ele das à seu sua ou quando muito nos já eu também só pelo pela até isso ela entre
        depois sem mesmo aos seus quem nas me esse eles você essa num nem suas qual quais onde foi
        é são foram quantos quantas está pelos pelas""",
    "italian": """di e il la che in un a per è una non sono da del si le con i della al come più lo
        anche ha dei nel gli alla dal ma delle su o se nella ed questo ad ai quando era chi cosa
        quale quali dove perché quanti quante quanto fu essere stato sua suo loro degli dalla sul
        sulla tra dopo cui ne l d un dell nell all""",
    "dutch": """de en van ik te dat die in een hij het niet zijn is was op aan met als voor had er
        maar om hem dan zou of wat mijn men dit zo door over ze zich bij ook tot je mij uit der
        daar haar naar heb hoe heeft hebben deze u want nog zal me zij nu ge geen omdat iets worden
        wordt wie waar wanneer waarom welke hoeveel werd werden na""",
    "swedish": """och det att i en jag hon som han på den med var sig för så till är men ett om hade
        de av icke mig du henne då sin nu har inte hans honom skulle hennes där min man ej vid kunde
        något från ut när efter upp vi dem vara vad över än dig kan sina här vem varför vilken
        vilket vilka hur mycket många""",
    "danish": """og i jeg det at en den til er som på de med han af for ikke der var mig sig men et
        har om vi min havde ham hun nu over da fra du ud sin dem os op man hans hvor eller hvad skal
        selv her alle vil blev kunne ind når være dog noget hvem hvorfor hvornår hvilken hvilket
        hvilke hvordan efter meget""",
    "norwegian": """og i jeg det at en et den til er som på de med han av ikke der så var meg seg
        men ett har om vi min mitt ha hadde hun nå over da ved fra du ut sin dem oss opp man kan
        hans hvor eller hva skal selv sjøl her alle vil bli ble blei hvem hvorfor når hvilken
        hvilket hvilke hvordan etter mye""",
    "finnish": """ja on ei se että hän oli ovat joka mutta kun niin kuin myös sen ole mitä mikä kuka
        missä milloin miksi kuinka miten montako mihin mistä olla olivat tai jos sitä tämä nämä ne
        he jotka joita jonka sekä vain kanssa""",
    "hungarian": """a az és hogy nem is egy ez volt meg de csak már mint ki mi mikor hol miért
        melyik hány hogyan milyen vagy azt ezt van el még akkor után által lehet kell voltak
        ennek annak""",
    "romanian": """de și în a la cu pe o un din care pentru este nu au fost mai că ca se sau prin al
        ale ai lui sa sunt era după fi ce cine cum când unde câte câți cât câtă care ceea lor dintre
        între despre fără până două cel cea cei cele i l le s acest această aceste erau avea
        avut""",
    "polish": """w i na z się do nie to że jest o a jak po co ale od za przez dla czy przy był było
        była są tym być który która które których ich jego jej go ze tak oraz lub kto gdzie kiedy
        dlaczego jaki jaka jakie ile""",
    "czech": """a v se na je že s z o i do to ve k pro za by ale jako po od jsou byl bylo byla který
        která které kteří co kdo kdy kde proč jak kolik jaký jaká jaké při také nebo než jeho
        jejich ze""",
    "turkish": """ve bir bu da de için ile çok daha olarak olan kadar gibi en ne o var sonra ise ki
        nedir neden nasıl nerede hangi kim kaç zaman mı mi mu mü değil olduğu tarafından şey her
        ancak veya ya hem diye oldu olduğunu""",
    "catalan": """de la i el que a en les els del un per amb es una al no va com més són dels seu o
        és ser seva entre pel quan on qui quin quina quins quines per què van aquest aquesta""",
    "indonesian": """yang dan di dari untuk pada dengan ini itu dalam adalah tidak ke oleh sebagai
        akan juga atau ada mereka telah bisa apa siapa kapan mana mengapa bagaimana berapa karena
        lebih""",
    "estonian": """ja on ei ta et see oli kui ka mis kes aga oma või siis nii ning kus millal miks
        kuidas mitu mida selle""",
    "lithuanian": """ir yra kad į iš su buvo tai kaip bet ar už nuo jo kas kur kada kodėl kiek kokia
        koks kurie kuris""",
    "vietnamese": """của và là có các những được trong cho với một không này người từ đã đến khi
        cũng như vào ở để tại về theo ông đó nào gì ai đâu sao bao nhiêu bởi hay hoặc do trên nhiều
        thì mà""",
    "russian": """и в не на с что он как по это к но из у за от то о же для так или был была было
        были я его все она а бы только ее мне вот ещё нет ему когда кто где почему сколько какой
        какая какое какие каких каким чем чего после до при со во под между который которая которые
        которое их также является""",
    "greek": """ο η το οι τα του της των τον την στο στη στην στον και να με για από που είναι δεν
        θα ως σε ένα μια μία ένας ή ότι αλλά ποιος ποια ποιο ποιοι ποιες πότε πού πώς γιατί τι πόσο
        πόσα πόσοι πόσες ήταν κατά μετά έχει έχουν τους τις στα στις στους""",
    "arabic": """في من ما ماذا على إلى هو هي كان كانت التي الذي الذين هل كم أين متى كيف لماذا أي
        أية عن مع هذا هذه ذلك تلك أو أن قد تم بعد قبل بين عند لم لا و ثم إن لقد كما حيث عندما كل
        غير""",
    "hindi": """का के की है हैं में को से क्या कौन कौनसा कौन-सा कहाँ कहां कब किस किसने किसके किसका
        कितने कितना कितनी कैसे क्यों और या यह वह ने पर था थी थे एक लिए इस उस द्वारा जो तो ही भी नहीं
        कर करने किया गया गई जाता हुआ होता होने अपने अपनी उनके साथ बाद तक""",
    "ukrainian": """і в не на що з до як за це та у від для про але або був була було були який яка
        яке які коли де чому скільки хто його її їх також є після""",
    "persian": """و در به از که این را با است برای آن یک خود تا بر هم نیز شد می ها چه چرا کجا کی چند
        کدام چگونه بود شده""",
}

STOP_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split()) for language, words in _LISTS.items()
}
