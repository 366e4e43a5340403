"""The printed names of pages, as those who cite them ask for them."""

from uuid import UUID, uuid4

from app.resources import Resources
from app.retrieval.page_labels import load_page_labels
from tests.people import Person
from tests.stored import ChunkRow, PageRow, change_document, make_ready, store_generation

PAGES = [PageRow(1, "One.", label="i"), PageRow(2, "Two."), PageRow(3, "Three.", label="A-3")]
CHUNKS = [ChunkRow("One.", (1, 0, 4))]


async def upload(person: Person) -> UUID:
    response = await person.upload("a.txt", uuid4().hex.encode())
    return UUID(response.json()["document_id"])


async def load(
    resources: Resources, person: Person, *pages: tuple[UUID, int]
) -> dict[tuple[UUID, int], str]:
    async with resources.db.reading(person) as driver:
        return await load_page_labels(driver, person.org_id, pages)


async def test_labels_are_those_of_the_pages_asked_for(
    person: Person, stranger: Person, resources: Resources
) -> None:
    first, second = await upload(person), await upload(person)
    for document_id in (first, second):
        await make_ready(resources, person.org_id, str(document_id), PAGES, CHUNKS)
    asked = [(first, 1), (first, 2), (second, 3), (second, 9), (uuid4(), 1)]
    assert await load(resources, person, *asked) == {(first, 1): "i", (second, 3): "A-3"}
    assert await load(resources, person) == {}
    assert await load(resources, stranger, *asked) == {}


async def test_only_what_readers_see_counts(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, str(document_id), PAGES, CHUNKS)
    new = [PageRow(1, "New.", label="xi"), PageRow(2, "New.", label="xii")]
    await store_generation(resources, person.org_id, str(document_id), new, [], generation=2)
    asked = [(document_id, number) for number in (1, 2)]
    assert await load(resources, person, *asked) == {(document_id, 1): "i"}
    await change_document(resources, str(document_id), "deleted_at = now(), status = 'deleting'")
    assert await load(resources, person, *asked) == {}
