"""The keys of a bucket, page after page, several folders at a time.

pyarrow lists a folder only as a whole, so the stores themselves are asked (`pipelines.amazon_keys`,
`pipelines.google_keys`).
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

PAGE = 1000
"""Keys and folders on a page: the most that S3 and Google give."""

LISTINGS = 16
"""Pages that are asked for at a time, each of another folder."""


@dataclass(frozen=True)
class Ask:
    """What to list: a page of the keys and folders that begin with a prefix."""

    bucket: str
    prefix: str
    token: str | None = None
    """Where the page before ended; None: the first page."""

    def answered(self, keys: list[str], folders: list[str], token: str | None) -> "Page":
        """Return the page that a store gave.

        Args:
            keys: Of objects. One that ends in "/" stands for a folder, and is left out.
            folders: Prefixes that go on from this one to the next "/".
            token: Where the page ended; None: it is the last one.
        """
        rest = [] if token is None else [Ask(self.bucket, self.prefix, token)]
        rest += [Ask(self.bucket, folder) for folder in folders]
        return Page([f"{self.bucket}/{key}" for key in keys if not key.endswith("/")], rest)


@dataclass(frozen=True)
class Page:
    """Up to `PAGE` keys and folders."""

    paths: list[str]
    """Of the files, as pyarrow writes them: "bucket/key"."""

    rest: list[Ask]
    """The page that follows and, after it, the folders on this one."""


def bucket_keys(list_page: Callable[[Ask], Page], folder: str) -> Iterator[list[str]]:
    """Yield the paths of all files below a folder of a bucket, in no order, a page together.

    Folders come before the page that follows theirs: what waits to be listed is at most a page of
    folders of each level, for each of the `LISTINGS`.

    What bounds the speed: each folder costs a request at least, however few keys are in it; and the
    pages of one folder come one after another, since a page says where the next begins. A bucket of
    one flat folder is thus listed by one request at a time, of `PAGE` keys.

    Args:
        list_page: Asks the store; may be called by several threads.
        folder: "bucket" or "bucket/prefix".

    Raises:
        PermissionError: The bucket may not be listed.
        OSError: It cannot be, after as many attempts as the filesystem makes.
    """
    bucket, _, prefix = folder.rstrip("/").partition("/")
    waiting = [Ask(bucket, f"{prefix}/" if prefix else "")]
    running: deque[Future[Page]] = deque()
    with ThreadPoolExecutor(LISTINGS) as pool:
        while waiting or running:
            while waiting and len(running) < LISTINGS:
                running.append(pool.submit(list_page, waiting.pop()))
            page = running.popleft().result()
            waiting += page.rest
            yield page.paths
