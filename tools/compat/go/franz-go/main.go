// franz-go plays the scenario.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ringlog.compat/scenario"
)

const client = "franz-go"

func codecOf(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

func connect(s *scenario.Scenario, options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Bootstrap)}, options...)...)
	s.Must("client", err)
	return made
}

func createTopic(ctx context.Context, s *scenario.Scenario, admin *kadm.Client) {
	configs := map[string]*string{}
	for name, value := range scenario.TopicConfig {
		configs[name] = &value
	}
	_, err := admin.CreateTopic(ctx, scenario.Partitions, 1, configs, s.Topic)
	s.Must("create topic", err)
	s.WaitFor("topic is listed", func() bool {
		topics, err := admin.ListTopics(ctx, s.Topic)
		s.Must("list topics", err)
		return topics[s.Topic].Err == nil && len(topics[s.Topic].Partitions) == scenario.Partitions
	})
}

func produce(ctx context.Context, s *scenario.Scenario, codec string) {
	options := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(scenario.RequestBytesMax),
		kgo.ProducerLinger(20 * time.Millisecond),
		kgo.ProducerBatchCompression(codecOf(codec)),
	}
	if codec != scenario.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	producer := connect(s, options...)
	defer producer.Close()
	ours := s.OfCodec(codec)
	var lock sync.Mutex
	var failed error
	answers := make([]*kgo.Record, len(ours))
	for i, record := range ours {
		var headers []kgo.RecordHeader
		for _, header := range record.Headers {
			headers = append(headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		sent := &kgo.Record{
			Topic: s.Topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp),
			Key: record.Key, Value: record.Value, Headers: headers,
		}
		producer.Produce(ctx, sent, func(answer *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			answers[i] = answer
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	s.Must("flush", producer.Flush(ctx))
	lock.Lock()
	defer lock.Unlock()
	s.Must("produce "+codec, failed)
	for i, record := range ours {
		s.Check(codec+" partition", answers[i].Partition, record.Partition)
		s.Check(codec+" offset", answers[i].Offset, record.Offset)
	}
}

func read(ctx context.Context, s *scenario.Scenario, consumer *kgo.Client, count int) map[int32][]scenario.Record {
	seen := map[int32][]scenario.Record{}
	ctx, stop := context.WithTimeout(ctx, scenario.Wait)
	defer stop()
	for taken := 0; taken < count; {
		fetches := consumer.PollRecords(ctx, min(100, count-taken))
		for _, problem := range fetches.Errors() {
			s.Must(fmt.Sprintf("fetch after %d of %d records", taken, count), problem.Err)
		}
		fetches.EachRecord(func(one *kgo.Record) {
			record := scenario.Record{Offset: one.Offset, Timestamp: one.Timestamp.UnixMilli(), Key: one.Key, Value: one.Value}
			for _, header := range one.Headers {
				record.Headers = append(record.Headers, scenario.Header{Name: header.Key, Value: header.Value})
			}
			seen[one.Partition] = append(seen[one.Partition], record)
			taken++
		})
	}
	return seen
}

func readAssigned(ctx context.Context, s *scenario.Scenario, admin *kadm.Client) {
	starts := map[int32]kgo.Offset{}
	for partition := range int32(scenario.Partitions) {
		starts[partition] = kgo.NewOffset().AtStart()
	}
	consumer := connect(s, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.Topic: starts}))
	defer consumer.Close()
	s.Compare("assign", read(ctx, s, consumer, len(s.Records)), nil)
	first, err := admin.ListStartOffsets(ctx, s.Topic)
	s.Must("start offsets", err)
	ends, err := admin.ListEndOffsets(ctx, s.Topic)
	s.Must("end offsets", err)
	youngest, err := admin.ListMaxTimestampOffsets(ctx, s.Topic)
	s.Must("max timestamp offsets", err)
	for partition := range int32(scenario.Partitions) {
		records := s.OfPartition(partition)
		s.Check("start offset", first[s.Topic][partition].Offset, int64(0))
		s.Check("end offset", ends[s.Topic][partition].Offset, int64(len(records)))
		s.Check("offset of the highest timestamp", youngest[s.Topic][partition].Offset, int64(len(records)-1))
		for _, question := range s.Questions(partition) {
			found, err := admin.ListOffsetsAfterMilli(ctx, question.Timestamp, s.Topic)
			s.Must("offsets after a time", err)
			wanted := question.Offset
			if wanted < 0 {
				wanted = int64(len(records)) // kadm answers the end offset then
			}
			s.Check(fmt.Sprintf("offset for time %d", question.Timestamp), found[s.Topic][partition].Offset, wanted)
		}
	}
}

func groupConsumer(s *scenario.Scenario) *kgo.Client {
	return connect(s, kgo.ConsumerGroup(s.Group), kgo.ConsumeTopics(s.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
}

func readInGroup(ctx context.Context, s *scenario.Scenario, admin *kadm.Client) {
	half := len(s.Records) / 2
	first := groupConsumer(s)
	seen := read(ctx, s, first, half)
	committed := map[int32]int64{}
	offsets := map[int32]kgo.EpochOffset{}
	for partition, records := range seen {
		committed[partition] = int64(len(records))
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: int64(len(records))}
	}
	first.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			s.Must("commit", err)
			for _, topic := range answer.Topics {
				for _, partition := range topic.Partitions {
					s.Check("commit", partition.ErrorCode, int16(0))
				}
			}
		})
	first.Close()
	answers, err := admin.FetchOffsets(ctx, s.Group)
	s.Must("fetch offsets", err)
	for partition, offset := range committed {
		answer, found := answers.Lookup(s.Topic, partition)
		s.Check("offset is committed", found, true)
		s.Check("committed offset", answer.At, offset)
	}
	second := groupConsumer(s)
	defer second.Close()
	rest := read(ctx, s, second, len(s.Records)-half)
	s.Compare("group restart", rest, committed)
	for partition, records := range rest {
		seen[partition] = append(seen[partition], records...)
	}
	s.Compare("group", seen, nil)
}

func play(bootstrap string, smoke bool) *scenario.Scenario {
	s := scenario.New(client, bootstrap, smoke, true)
	ctx := context.Background()
	admin := kadm.NewClient(connect(s))
	defer admin.Close()
	createTopic(ctx, s, admin)
	for _, codec := range append(append([]string{}, scenario.Codecs...), scenario.Idempotent) {
		produce(ctx, s, codec)
	}
	readAssigned(ctx, s, admin)
	readInGroup(ctx, s, admin)
	_, err := admin.DeleteTopic(ctx, s.Topic)
	s.Must("delete topic", err)
	s.WaitFor("topic is gone", func() bool {
		topics, err := admin.ListTopics(ctx)
		s.Must("list topics", err)
		return !topics.Has(s.Topic)
	})
	return s
}

func main() {
	scenario.Run(client, play)
}
