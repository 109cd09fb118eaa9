'use strict'
// kafkajs plays the scenario of the Python programs (see ../README.md).
//
// kafkajs has no plain assignment: the first read is a fresh group that starts at the
// beginning. It also sends no null header values, and it names a missing timestamp -1.

const crypto = require('crypto')
process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')

const CLIENT = 'kafkajs'
const PARTITIONS = 3
const TIMESTAMP_STEP_MS = 1000
const IDEMPOTENT_PER_PARTITION = 50
const WAIT_MS = 60000
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

let checks = 0

function check(what, got, wanted) {
  checks += 1
  const same = Buffer.isBuffer(wanted) ? Buffer.isBuffer(got) && wanted.equals(got) : got === wanted
  if (!same) throw new Error(`${what}: got ${short(got)}, wanted ${short(wanted)}`)
}

function short(value) {
  return Buffer.isBuffer(value) ? `${value.length} bytes ${value.subarray(0, 16).toString('hex')}` : String(value)
}

async function waitFor(what, condition) {
  const deadline = Date.now() + WAIT_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${WAIT_MS} ms`)
    await new Promise((done) => setTimeout(done, 100))
  }
  checks += 1
}

async function registerCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = snappy
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async (encoder) => lz4.compressFrame(encoder.buffer),
    decompress: async (buffer) => lz4.decompressFrame(buffer),
  })
  const zstd = await new Promise((done) => ZstdCodec.run(done))
  const streaming = new zstd.Streaming()
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(streaming.compress(encoder.buffer)),
    decompress: async (buffer) => Buffer.from(streaming.decompress(buffer)),
  })
}

// Half random, half repeated: neither free nor impossible to compress.
function payload(size) {
  return Buffer.concat([crypto.randomBytes(Math.ceil(size / 2)), Buffer.alloc(Math.floor(size / 2), 'ringlog ')])
}

function shapes(smoke) {
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
  const headers = { h: [Buffer.from('v'), Buffer.from('second')], empty: Buffer.alloc(0), binary: everyByte }
  const found = [
    [Buffer.from('k'), 1, {}],
    [everyByte, 1024, {}],
    [Buffer.from('big'), 100 * 1024, {}],
    [null, 10, {}],
    [Buffer.from('tombstone'), null, {}],
    [Buffer.alloc(0), 0, {}],
    [null, null, {}],
    [Buffer.from('headers'), 20, headers],
    [Buffer.from('schlüssel'), 300, { größe: Buffer.from('weiß') }],
  ]
  return smoke ? found : found.concat([[Buffer.from('huge'), 1024 * 1024, {}]])
}

function makeRecords(smoke) {
  const records = []
  const firstTimestamp = Date.now() - 3600000
  const places = new Array(PARTITIONS).fill(0)
  const add = (codec, key, size, headers) => {
    const index = records.length
    const partition = index % PARTITIONS
    const offset = places[partition]++
    const timestamp = firstTimestamp + index * TIMESTAMP_STEP_MS
    records.push({ codec, partition, offset, timestamp, key, value: size === null ? null : payload(size), headers })
  }
  for (const codec of Object.keys(CODECS)) {
    for (const [key, size, headers] of shapes(smoke)) add(codec, key, size, headers)
  }
  for (let number = 0; number < IDEMPOTENT_PER_PARTITION * PARTITIONS; number++) {
    add('idempotent', Buffer.from('sequence'), 100 + number, {})
  }
  return records
}

const ofPartition = (records, partition) => records.filter((record) => record.partition === partition)

async function createTopic(admin, topic) {
  const configEntries = [
    { name: 'max.message.bytes', value: '4194304' },
    { name: 'retention.ms', value: '-1' },
  ]
  const made = await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1, configEntries }] })
  check('creation', made, true)
  await waitFor('topic is listed', async () => (await admin.listTopics()).includes(topic))
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  check('partitions of the new topic', topics[0].partitions.length, PARTITIONS)
}

// One send is one request with one batch for each partition, so it must name the first offset of each.
async function produce(kafka, topic, records, codec) {
  const idempotent = codec === 'idempotent'
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: false })
  await producer.connect()
  const ours = records.filter((record) => record.codec === codec)
  for (let start = 0; start < ours.length; start += PARTITIONS * 4) {
    const part = ours.slice(start, start + PARTITIONS * 4)
    const messages = part.map(({ key, value, headers, partition, timestamp }) => {
      return { key, value, headers, partition, timestamp: String(timestamp) }
    })
    const answers = await producer.send({ topic, messages, acks: -1, compression: CODECS[codec] })
    for (const answer of answers) {
      check(`${codec} error`, answer.errorCode, 0)
      const first = part.find((record) => record.partition === answer.partition)
      check(`${codec} base offset of partition ${answer.partition}`, answer.baseOffset, String(first.offset))
    }
  }
  await producer.disconnect()
}

// Reads until `count` records have come, then commits what was read when `commit` says so.
async function read(kafka, topic, groupId, count, commit) {
  const consumer = kafka.consumer({ groupId, maxBytesPerPartition: 4194304, maxWaitTimeInMs: 200, allowAutoTopicCreation: false })
  const seen = new Map()
  let taken = 0
  let finished
  let broken
  const done = new Promise((resolve, reject) => {
    finished = resolve
    broken = reject
  })
  const limit = setTimeout(() => broken(new Error(`only ${taken} of ${count} records came`)), WAIT_MS)
  consumer.on(consumer.events.CRASH, ({ payload }) => broken(payload.error))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      if (taken >= count) return
      if (!seen.has(partition)) seen.set(partition, [])
      seen.get(partition).push(message)
      taken += 1
      if (taken === count) finished()
    },
  })
  await done
  clearTimeout(limit)
  if (commit) {
    const offsets = [...seen].map(([partition, ones]) => ({ topic, partition, offset: String(ones.length) }))
    await consumer.commitOffsets(offsets)
  }
  await consumer.disconnect()
  return seen
}

function checkHeaders(name, got, wanted) {
  check(`${name} header names`, Object.keys(got).join(), Object.keys(wanted).join())
  for (const [header, value] of Object.entries(wanted)) {
    const all = [].concat(value)
    const seen = [].concat(got[header])
    check(`${name} header ${header} count`, seen.length, all.length)
    all.forEach((one, place) => check(`${name} header ${header}`, seen[place], one))
  }
}

function compare(how, records, seen, first) {
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const wanted = ofPartition(records, partition).slice(first.get(partition) ?? 0)
    const got = seen.get(partition) ?? []
    check(`${how}: records of partition ${partition}`, got.length, wanted.length)
    wanted.forEach((record, place) => {
      const name = `${how}: partition ${partition} offset ${record.offset} (${record.codec})`
      check(`${name} offset`, got[place].offset, String(record.offset))
      check(`${name} timestamp`, got[place].timestamp, String(record.timestamp))
      check(`${name} key`, got[place].key, record.key)
      check(`${name} value`, got[place].value, record.value)
      checkHeaders(name, got[place].headers, record.headers)
    })
  }
}

async function lookUpOffsets(admin, topic, records) {
  for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
    check(`ends of partition ${partition}`, `${low} ${high}`, `0 ${ofPartition(records, partition).length}`)
  }
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const ours = ofPartition(records, partition)
    const middle = ours[ours.length >> 1]
    // kafkajs answers the end offset where Kafka says that nothing is that young.
    const questions = [
      [ours[0].timestamp - 5000, 0],
      [middle.timestamp, middle.offset],
      [middle.timestamp - 1, middle.offset],
      [ours[ours.length - 1].timestamp + 1, ours.length],
    ]
    for (const [stamp, offset] of questions) {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, stamp)
      const one = found.find((each) => each.partition === partition)
      check(`offset for time ${stamp} in partition ${partition}`, one.offset, String(offset))
    }
  }
}

async function readInGroup(kafka, admin, topic, group, records) {
  const half = records.length >> 1
  const seen = await read(kafka, topic, group, half, true)
  const committed = new Map([...seen].map(([partition, ones]) => [partition, ones.length]))
  const [answer] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  for (const { partition, offset } of answer.partitions) {
    check(`committed offset of ${partition}`, offset, String(committed.get(partition) ?? -1))
  }
  const rest = await read(kafka, topic, group, records.length - half, false)
  compare('group restart', records, rest, committed)
}

async function main() {
  const given = process.argv.slice(2)
  const at = given.indexOf('--bootstrap')
  if (at < 0 || !given[at + 1]) throw new Error('usage: main.js --bootstrap HOST:PORT [--smoke]')
  const records = makeRecords(given.includes('--smoke'))
  await registerCodecs()
  const suffix = crypto.randomBytes(5).toString('hex')
  const topic = `compat-${CLIENT}-${suffix}`
  const group = `compat-group-${CLIENT}-${suffix}`
  const kafka = new Kafka({ clientId: 'compat', brokers: [given[at + 1]], logLevel: logLevel.ERROR })
  const admin = kafka.admin()
  await admin.connect()
  await createTopic(admin, topic)
  for (const codec of [...Object.keys(CODECS), 'idempotent']) await produce(kafka, topic, records, codec)
  compare('whole topic', records, await read(kafka, topic, `${group}-whole`, records.length, false), new Map())
  await lookUpOffsets(admin, topic, records)
  await readInGroup(kafka, admin, topic, group, records)
  await admin.deleteTopics({ topics: [topic] })
  await waitFor('topic is gone', async () => !(await admin.listTopics()).includes(topic))
  await admin.disconnect()
}

main().then(
  () => console.log(`PASS ${CLIENT} ${checks} checks`),
  (error) => {
    console.error(error.stack)
    console.log(`FAIL ${CLIENT} ${error.message}`)
    process.exit(1)
  },
)
