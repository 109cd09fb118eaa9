// sarama plays the scenario.
//
// Its records carry no null header values: it writes them as empty ones.
package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"ringlog.compat/scenario"
)

const client = "sarama"

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD, scenario.Idempotent: sarama.CompressionNone,
}

func config() *sarama.Config {
	made := sarama.NewConfig()
	made.Version = sarama.MaxVersion
	made.ClientID = "compat"
	made.Consumer.Offsets.Initial = sarama.OffsetOldest
	made.Consumer.Offsets.AutoCommit.Enable = false
	made.Consumer.Return.Errors = true
	made.Consumer.MaxWaitTime = 200 * time.Millisecond
	made.Producer.Return.Successes = true
	made.Producer.RequiredAcks = sarama.WaitForAll
	made.Producer.MaxMessageBytes = scenario.RequestBytesMax
	made.Producer.Partitioner = sarama.NewManualPartitioner
	made.Producer.Flush.Frequency = 20 * time.Millisecond
	made.Net.MaxOpenRequests = 1
	return made
}

func createTopic(s *scenario.Scenario, admin sarama.ClusterAdmin) {
	entries := map[string]*string{}
	for name, value := range scenario.TopicConfig {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: scenario.Partitions, ReplicationFactor: 1, ConfigEntries: entries}
	s.Must("create topic", admin.CreateTopic(s.Topic, detail, false))
	s.WaitFor("topic has its partitions", func() bool {
		topics, err := admin.DescribeTopics([]string{s.Topic})
		s.Must("describe topics", err)
		return topics[0].Err == sarama.ErrNoError && len(topics[0].Partitions) == scenario.Partitions
	})
}

func encoded(value []byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(value)
}

func produce(s *scenario.Scenario, codec string) {
	settings := config()
	settings.Producer.Compression = codecs[codec]
	settings.Producer.Idempotent = codec == scenario.Idempotent
	producer, err := sarama.NewSyncProducer([]string{s.Bootstrap}, settings)
	s.Must("producer", err)
	var messages []*sarama.ProducerMessage
	ours := s.OfCodec(codec)
	for _, record := range ours {
		message := &sarama.ProducerMessage{
			Topic: s.Topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp),
			Key: encoded(record.Key), Value: encoded(record.Value),
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		messages = append(messages, message)
	}
	s.Must("send "+codec, producer.SendMessages(messages))
	for i, record := range ours {
		s.Check(codec+" partition", messages[i].Partition, record.Partition)
		s.Check(codec+" offset", messages[i].Offset, record.Offset)
	}
	s.Must("close producer", producer.Close())
}

func seenFrom(message *sarama.ConsumerMessage) scenario.Record {
	record := scenario.Record{
		Offset: message.Offset, Timestamp: message.Timestamp.UnixMilli(), Key: message.Key, Value: message.Value,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, scenario.Header{Name: string(header.Key), Value: header.Value})
	}
	return record
}

func readAssigned(s *scenario.Scenario) {
	consumer, err := sarama.NewConsumer([]string{s.Bootstrap}, config())
	s.Must("consumer", err)
	seen := map[int32][]scenario.Record{}
	for partition := range int32(scenario.Partitions) {
		reader, err := consumer.ConsumePartition(s.Topic, partition, sarama.OffsetOldest)
		s.Must("consume partition", err)
		limit := time.After(scenario.Wait)
		for wanted := len(s.OfPartition(partition)); len(seen[partition]) < wanted; {
			select {
			case message := <-reader.Messages():
				seen[partition] = append(seen[partition], seenFrom(message))
			case problem := <-reader.Errors():
				s.Must("consume", problem)
			case <-limit:
				panic(scenario.Failed(fmt.Sprintf("only %d of %d records came", len(seen[partition]), wanted)))
			}
		}
		s.Must("close reader", reader.Close())
	}
	s.Must("close consumer", consumer.Close())
	s.Compare("assign", seen, nil)
}

func lookUpOffsets(s *scenario.Scenario, asking sarama.Client) {
	for partition := range int32(scenario.Partitions) {
		ask := func(what string, stamp, wanted int64) {
			found, err := asking.GetOffset(s.Topic, partition, stamp)
			s.Must(what, err)
			s.Check(what, found, wanted)
		}
		ask("start offset", sarama.OffsetOldest, 0)
		ask("end offset", sarama.OffsetNewest, int64(len(s.OfPartition(partition))))
		for _, question := range s.Questions(partition) {
			ask(fmt.Sprintf("offset for time %d", question.Timestamp), question.Timestamp, question.Offset)
		}
	}
}

// reader takes records from all claims until `count` have come, then commits them.
type reader struct {
	lock   sync.Mutex
	seen   map[int32][]scenario.Record
	taken  int
	count  int
	finish context.CancelFunc
}

func (r *reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (r *reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (r *reader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open || !r.take(session, message) {
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (r *reader) take(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.taken == r.count {
		return false
	}
	r.seen[message.Partition] = append(r.seen[message.Partition], seenFrom(message))
	r.taken++
	session.MarkMessage(message, "")
	if r.taken == r.count {
		session.Commit()
		r.finish()
	}
	return true
}

func readGroup(s *scenario.Scenario, count int) map[int32][]scenario.Record {
	group, err := sarama.NewConsumerGroup([]string{s.Bootstrap}, s.Group, config())
	s.Must("consumer group", err)
	ctx, stop := context.WithTimeout(context.Background(), scenario.Wait)
	defer stop()
	one := &reader{seen: map[int32][]scenario.Record{}, count: count, finish: stop}
	var problem error
	var watching sync.WaitGroup
	watching.Go(func() {
		for err := range group.Errors() {
			problem = err
		}
	})
	for ctx.Err() == nil {
		s.Must("consume group", group.Consume(ctx, []string{s.Topic}, one))
	}
	s.Must("close group", group.Close())
	watching.Wait()
	s.Must("group", problem)
	s.Check("records read in the group", one.taken, count)
	return one.seen
}

func readInGroup(s *scenario.Scenario, admin sarama.ClusterAdmin) {
	half := len(s.Records) / 2
	seen := readGroup(s, half)
	answer, err := admin.ListConsumerGroupOffsets(s.Group, map[string][]int32{s.Topic: {0, 1, 2}})
	s.Must("group offsets", err)
	committed := map[int32]int64{}
	for partition, records := range seen {
		committed[partition] = int64(len(records))
		s.Check("committed offset", answer.GetBlock(s.Topic, partition).Offset, committed[partition])
	}
	rest := readGroup(s, len(s.Records)-half)
	s.Compare("group restart", rest, committed)
	for partition, records := range rest {
		seen[partition] = append(seen[partition], records...)
	}
	s.Compare("group", seen, nil)
}

func play(bootstrap string, smoke bool) *scenario.Scenario {
	s := scenario.New(client, bootstrap, smoke, false)
	asking, err := sarama.NewClient([]string{bootstrap}, config())
	s.Must("client", err)
	admin, err := sarama.NewClusterAdminFromClient(asking)
	s.Must("admin", err)
	createTopic(s, admin)
	for _, codec := range append(slices.Clone(scenario.Codecs), scenario.Idempotent) {
		produce(s, codec)
	}
	readAssigned(s)
	lookUpOffsets(s, asking)
	readInGroup(s, admin)
	s.Must("delete topic", admin.DeleteTopic(s.Topic))
	s.WaitFor("topic is gone", func() bool {
		topics, err := admin.ListTopics()
		s.Must("list topics", err)
		_, found := topics[s.Topic]
		return !found
	})
	s.Must("close admin", admin.Close())
	return s
}

func main() {
	scenario.Run(client, play)
}
