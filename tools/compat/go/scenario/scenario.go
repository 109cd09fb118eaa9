// Package scenario is what every client plays, as the two Go programs share it.
//
// It owns the records, the count of checks and the closing line, and knows no client.
// Invariant: record i has the timestamp FirstTimestamp + 1000*i, so timestamps rise
// within every partition and each one names exactly one offset.
package scenario

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"time"
)

const (
	Partitions             = 3
	IdempotentPerPartition = 50
	RequestBytesMax        = 4 * 1024 * 1024
	Wait                   = 60 * time.Second
	timestampStepMs        = 1000
	Idempotent             = "idempotent"
)

var (
	Codecs      = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	TopicConfig = map[string]string{"max.message.bytes": "4194304", "retention.ms": "-1"}
)

type Header struct {
	Name  string
	Value []byte
}

// Record is one record as sent; a nil Key or Value is Kafka's null.
type Record struct {
	Codec     string
	Partition int32
	Offset    int64
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

type Scenario struct {
	Client    string
	Bootstrap string
	Topic     string
	Group     string
	Records   []Record
	Checks    int
}

// Failed is what a check that does not hold panics with; Run prints it.
type Failed string

type shape struct {
	key     []byte
	size    int
	headers []Header
}

func shapes(smoke bool) []shape {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	headers := []Header{{"h", []byte("v")}, {"h", []byte("second")}, {"empty", []byte{}}, {"null", nil}, {"binary", everyByte}}
	found := []shape{
		{[]byte("k"), 1, nil},
		{everyByte, 1024, nil},
		{[]byte("big"), 100 * 1024, nil},
		{nil, 10, nil},
		{[]byte("tombstone"), -1, nil},
		{[]byte{}, 0, nil},
		{nil, -1, nil},
		{[]byte("headers"), 20, headers},
		{[]byte("schlüssel"), 300, []Header{{"größe", []byte("weiß")}}},
	}
	if !smoke {
		found = append(found, shape{[]byte("huge"), 1024 * 1024, nil})
	}
	return found
}

// payload is half random, half repeated: neither free nor impossible to compress.
func payload(seed, size int) []byte {
	value := make([]byte, size)
	half := (size + 1) / 2
	rand.New(rand.NewSource(int64(seed))).Read(value[:half])
	for i := half; i < size; i++ {
		value[i] = "ringlog "[i%8]
	}
	return value
}

// New makes the scenario's records. nullHeaders: whether the client tells null header values from empty ones.
func New(client, bootstrap string, smoke, nullHeaders bool) *Scenario {
	suffix := fmt.Sprintf("%x", time.Now().UnixNano())
	s := &Scenario{
		Client:    client,
		Bootstrap: bootstrap,
		Topic:     "compat-" + client + "-" + suffix,
		Group:     "compat-group-" + client + "-" + suffix,
	}
	first := time.Now().UnixMilli() - 3_600_000
	places := [Partitions]int64{}
	add := func(codec string, one shape) {
		index := len(s.Records)
		partition := int32(index % Partitions)
		record := Record{Codec: codec, Partition: partition, Offset: places[partition], Key: one.key}
		record.Timestamp = first + int64(index)*timestampStepMs
		if one.size >= 0 {
			record.Value = payload(index, one.size)
		}
		for _, header := range one.headers {
			if header.Value != nil || nullHeaders {
				record.Headers = append(record.Headers, header)
			}
		}
		places[partition]++
		s.Records = append(s.Records, record)
	}
	for _, codec := range Codecs {
		for _, one := range shapes(smoke) {
			add(codec, one)
		}
	}
	for i := range IdempotentPerPartition * Partitions {
		add(Idempotent, shape{[]byte("sequence"), 100 + i, nil})
	}
	return s
}

func (s *Scenario) OfCodec(codec string) []Record {
	var found []Record
	for _, record := range s.Records {
		if record.Codec == codec {
			found = append(found, record)
		}
	}
	return found
}

func (s *Scenario) OfPartition(partition int32) []Record {
	var found []Record
	for _, record := range s.Records {
		if record.Partition == partition {
			found = append(found, record)
		}
	}
	return found
}

// Check counts one check and panics with Failed when got is not wanted.
func (s *Scenario) Check(what string, got, wanted any) {
	s.Checks++
	if got != wanted {
		panic(Failed(fmt.Sprintf("%s: got %v, wanted %v", what, got, wanted)))
	}
}

// CheckBytes also tells null from empty.
func (s *Scenario) CheckBytes(what string, got, wanted []byte) {
	s.Check(what+" null", got == nil, wanted == nil)
	s.Check(what+" length", len(got), len(wanted))
	s.Check(what+" bytes", bytes.Equal(got, wanted), true)
}

// Must fails the run for any error.
func (s *Scenario) Must(what string, err error) {
	if err != nil {
		panic(Failed(what + ": " + err.Error()))
	}
}

// WaitFor repeats condition until it holds: metadata follows an admin answer with a delay.
func (s *Scenario) WaitFor(what string, condition func() bool) {
	deadline := time.Now().Add(Wait)
	for !condition() {
		if time.Now().After(deadline) {
			panic(Failed(what + ": not within " + Wait.String()))
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.Checks++
}

// Compare checks what was read of each partition, from first[partition] to the end of the log.
func (s *Scenario) Compare(how string, seen map[int32][]Record, first map[int32]int64) {
	for partition := range int32(Partitions) {
		wanted := s.OfPartition(partition)[first[partition]:]
		got := seen[partition]
		s.Check(fmt.Sprintf("%s: records of partition %d", how, partition), len(got), len(wanted))
		for i, record := range wanted {
			name := fmt.Sprintf("%s: partition %d offset %d (%s)", how, partition, record.Offset, record.Codec)
			s.Check(name+" offset", got[i].Offset, record.Offset)
			s.Check(name+" timestamp", got[i].Timestamp, record.Timestamp)
			s.CheckBytes(name+" key", got[i].Key, record.Key)
			s.CheckBytes(name+" value", got[i].Value, record.Value)
			s.Check(name+" header count", len(got[i].Headers), len(record.Headers))
			for j, header := range record.Headers {
				s.Check(name+" header name", got[i].Headers[j].Name, header.Name)
				s.CheckBytes(name+" header "+header.Name, got[i].Headers[j].Value, header.Value)
			}
		}
	}
}

// Question is a timestamp and the offset it names; -1 when nothing is that young.
type Question struct {
	Timestamp int64
	Offset    int64
}

func (s *Scenario) Questions(partition int32) []Question {
	records := s.OfPartition(partition)
	middle, last := records[len(records)/2], records[len(records)-1]
	return []Question{
		{records[0].Timestamp - 5000, 0},
		{middle.Timestamp, middle.Offset},
		{middle.Timestamp - 1, middle.Offset},
		{last.Timestamp, last.Offset},
		{last.Timestamp + 1, -1},
	}
}

// Run plays, prints the one closing line and exits.
func Run(client string, play func(bootstrap string, smoke bool) *Scenario) {
	bootstrap := flag.String("bootstrap", "", "HOST:PORT")
	smoke := flag.Bool("smoke", false, "leave out the largest records")
	flag.Parse()
	if *bootstrap == "" {
		flag.Usage()
		os.Exit(2)
	}
	defer func() {
		if reason := recover(); reason != nil {
			if _, expected := reason.(Failed); !expected {
				fmt.Printf("FAIL %s panic: %v\n", client, reason)
				panic(reason)
			}
			fmt.Printf("FAIL %s %v\n", client, reason)
			os.Exit(1)
		}
	}()
	s := play(*bootstrap, *smoke)
	fmt.Printf("PASS %s %d checks\n", client, s.Checks)
}
