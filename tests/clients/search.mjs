// OpenSearch's own JavaScript client, unchanged: everything is asked of the service and of OpenSearch, and compared.
// Arguments: URL of the service, URL of OpenSearch, index. Prints one JSON object; exits with 1 where an answer differs.
import assert from "node:assert/strict";
import { Client } from "@opensearch-project/opensearch";

const [, , service, node, index] = process.argv;
const through = new Client({ node: service });
const straight = new Client({ node });

const match = { match: { title: "red leather bag" } };
const near = { neural: { lrem_vector: { query_text: "red leather bag", k: 5 } } };

const withoutTimes = ({ took, responses, ...rest }) => ({
  ...rest,
  ...(responses ? { responses: responses.map(withoutTimes) } : {}),
});

const failure = async (client, request) => {
  try {
    await client.search(request);
  } catch (error) {
    return { name: error.name, statusCode: error.statusCode, error: error.meta.body.error };
  }
  return assert.fail("no error");
};

const told = {};

for (const body of [
  { query: match, size: 3 },
  { query: { bool: { must: [match], filter: [{ term: { brand: "Bose" } }] } }, sort: [{ price: "desc" }] },
  { size: 0, aggs: { brands: { terms: { field: "brand" }, aggs: { mean: { avg: { field: "price" } } } } } },
]) {
  const [one, other] = await Promise.all([through, straight].map((client) => client.search({ index, body })));
  assert.equal(one.statusCode, other.statusCode);
  assert.deepEqual(withoutTimes(one.body), withoutTimes(other.body));
  told.searches = (told.searches ?? 0) + 1;
}

const lines = [{ index }, { query: match, size: 1 }, { index }, { sort: ["no_such_field"] }, { index }, { size: 0 }];
const [several, same] = await Promise.all([through, straight].map((client) => client.msearch({ body: lines })));
assert.deepEqual(withoutTimes(several.body), withoutTimes(same.body));
told.msearch = several.body.responses.length;

const { body: found } = await through.search({ index, body: { query: near, _source: ["title"] } });
assert.equal(found.hits.hits.length, 5);
assert.equal(found.ext.lrem.route, "direct");
told.route = found.ext.lrem.route;
told.ids = found.hits.hits.map((hit) => hit._id);

const { body: mixed } = await through.msearch({ body: [{ index }, { query: near }, { index }, { query: match }] });
assert.deepEqual(mixed.responses[0].hits.hits.map((hit) => hit._id), told.ids);
assert.equal(mixed.responses[1].ext, undefined);

const wrong = { index, body: { query: { unknown: {} } } };
const [complaint, original] = [await failure(through, wrong), await failure(straight, wrong)];
assert.deepEqual(complaint, original);
assert.equal(complaint.statusCode, 400);
told.error = complaint.error.type;

const closed = await failure(through, { index: "secret", body: {} });
assert.equal(closed.statusCode, 403);
assert.equal(closed.error.type, "index_not_allowed_exception");
assert.equal((await failure(through, { index, scroll: "1m", body: {} })).statusCode, 400);

console.log(JSON.stringify(told));
await Promise.all([through.close(), straight.close()]);
