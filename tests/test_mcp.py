"""A coding agent's whole way through the server's tools, by the protocol's own client."""

import sys
import time

import anyio
import numpy as np
import pytest
from mcp import Client, StdioServerParameters, stdio_client

SECONDS = 400


def session(folder, conversation, refine="--structure_seconds 5"):
    """Run an agent's conversation with a server over standard input and output."""
    flags = f"--proposer grammar --workers 1 {refine}"
    arguments = ["-m", "llmsr", "mcp", str(folder), "--search_flags", flags]
    server = StdioServerParameters(command=sys.executable, args=arguments)

    async def main():
        with anyio.fail_after(SECONDS):
            async with Client(stdio_client(server)) as client:
                return await conversation(client)

    return anyio.run(main)


async def call(client, tool, **arguments):
    """What a tool answers: its value, or the sentence of its failure."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        return result.content[0].text
    found = result.structured_content
    return found.get("result", found)


@pytest.fixture
def folder(tmp_path):
    x = np.linspace(0.1, 3, 60)
    table = np.column_stack([x, 2.5 * x * np.exp(-x)])
    np.savetxt(tmp_path / "mine.csv", table, delimiter=",", header="x,y", comments="")
    return tmp_path


def test_from_a_table_to_a_prediction(folder):
    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert all(len(tool.description) > 40 for tool in tools.values())
        made = await call(client, "new", name="mine", csv="mine.csv", target="y", units="x=s")
        assert made["columns"] == ["x"]
        wrong, right = await call(
            client, "score", problem="mine", bodies=["return x *", "return params[0]*x*np.exp(-x)"]
        )
        assert (wrong["status"], right["status"]) == ("syntax", "ok")
        assert right["params"][0] == pytest.approx(2.5)
        await call(client, "search", problem="mine", run="first", samples=4)
        while (state := await call(client, "status", run="first"))["status"] == "running":
            await anyio.sleep(2)
        assert state["status"] == "finished"
        assert state["nmse"]["train"] < 1e-20
        best = await call(client, "best", run="first")
        assert "exp" in best["pick"]["equation"]
        rows = await call(client, "predict", run="first", rows=[{"x": 1.0}, {"x": 2.0}])
        assert [float(row["y_predicted"]) for row in rows] == pytest.approx(
            [2.5 * np.exp(-1), 5 * np.exp(-2)]
        )

    session(folder, conversation)


def test_what_goes_wrong_is_one_sentence_and_nothing_outside_the_folder_is_touched(folder):
    async def conversation(client):
        return {
            "missing": await call(client, "new", name="a", csv="none.csv", target="y"),
            "outside": await call(client, "new", name="a", csv="../x.csv", target="y"),
            "parent": await call(client, "best", run="../../a"),
            "problem": await call(client, "score", problem="../../a", bodies=["return x"]),
            "flag": await call(client, "search", problem="--resume", run="r"),
            "run": await call(client, "best", run="none"),
        }

    told = session(folder, conversation)
    assert "none.csv" in told["missing"]
    for case in ("outside", "parent", "problem"):
        assert "outside the server's folder" in told[case]
    assert "begins with a dash" in told["flag"]
    assert all("\n" not in sentence for sentence in told.values()), told
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv"]


def test_the_searches_of_a_server_end_with_it_and_keep_their_results(folder):
    async def conversation(client):
        await call(client, "search", problem="stressstrain", run="long", samples=100_000)
        while (await call(client, "status", run="long")).get("samples", 0) < 5:
            await anyio.sleep(2)

    session(folder, conversation, refine="--structure_seconds 0")
    # a client waits two seconds for its server, which is less than a search may take to write its results
    result, last = folder / "logs" / "long" / "result.json", time.monotonic() + 60
    while not result.is_file() and time.monotonic() < last:
        time.sleep(0.5)
    assert result.is_file()
