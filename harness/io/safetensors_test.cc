#include "harness/io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>

#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

namespace fs = std::filesystem;

const fs::path kUpstream = fs::path(ASSAY_GOLDEN) / "upstream";

// The bytes of a file with this header and so many bytes of data.
std::string file_bytes(std::string_view header, std::size_t data_bytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i));
  return bytes + std::string(header) + std::string(data_bytes, '\1');
}

// One member of a header.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return '"' + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

template <class Action>
std::string complaint(Action action) {
  try {
    action();
  } catch (const SafetensorsError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no SafetensorsError";
  return "";
}

std::string complaint_about(const std::string& bytes) {
  const TemporaryFolder folder;
  const fs::path file = folder.put("w.safetensors", bytes);
  const std::string message = complaint([&] { SafetensorsFile{file}; });
  EXPECT_TRUE(message.starts_with(file.string() + ": ")) << message;
  return message;
}

// Tensors that own their bytes.
struct Weights {
  std::vector<std::vector<std::byte>> data;
  std::vector<StoredTensor> tensors;

  void add(std::string name, DType dtype, Shape shape) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(element_count(shape)) * size_of(dtype));
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 + data.size());
    data.push_back(std::move(bytes));
    tensors.push_back({std::move(name), dtype, std::move(shape), data.back()});
  }
};

Weights some_weights() {
  Weights w;
  w.data.reserve(16);
  w.add("a", DType::bfloat16, {3, 5});
  w.add("scalar", DType::float32, {});
  w.add("empty", DType::float32, {4, 0});
  w.add("b.weight", DType::float64, {2});
  w.add("ids", DType::int64, {2, 2});
  w.add("mask", DType::boolean, {3});
  w.add("ärger \"quoted\"", DType::uint8, {1});
  return w;
}

void expect_equal(const StoredTensor& got, const StoredTensor& want) {
  EXPECT_EQ(got.name, want.name);
  EXPECT_EQ(got.dtype, want.dtype);
  EXPECT_EQ(got.shape, want.shape);
  EXPECT_TRUE(std::ranges::equal(got.bytes, want.bytes)) << want.name;
}

// ---- what is right

TEST(Safetensors, ReadsWhatTransformersWrites) {
  const SafetensorsFile file(kUpstream / "hf_checkpoint_bf16" / "model.safetensors");
  EXPECT_EQ(file.tensors().size(), 41u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const SafetensorsModel model(kUpstream / "hf_checkpoint_f32");
  const StoredTensor& head = model.tensor("lm_head.weight");
  EXPECT_EQ(head.dtype, DType::float32);
  EXPECT_EQ(head.shape, (Shape{71, 32}));
  // Its first and last element, as another reader of the format sees them.
  EXPECT_EQ(static_cast<float>(load(DType::float32, head.bytes.data())), -0.239790842f);
  EXPECT_EQ(static_cast<float>(load(DType::float32, head.bytes.last(4).data())), -0.0485717133f);
}

TEST(Safetensors, RoundTripIsBitExact) {
  const TemporaryFolder folder;
  const Weights w = some_weights();
  write_safetensors(folder / "w.safetensors", w.tensors, {{"format", "pt"}, {"note", "x"}});
  SafetensorsFile file(folder / "w.safetensors");
  SafetensorsFile moved = std::move(file);
  ASSERT_EQ(moved.tensors().size(), w.tensors.size());
  for (std::size_t i = 0; i < w.tensors.size(); ++i) expect_equal(moved.tensors()[i], w.tensors[i]);
  EXPECT_EQ(moved.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "x"}}));
  const std::string bytes = content(folder / "w.safetensors");
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) % 8, 0);                                        // data begin aligned
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator{}), 1);  // no temporary left
}

TEST(Safetensors, ShardsRoundTrip) {
  const TemporaryFolder folder;
  const Weights w = some_weights();
  write_safetensors_model(folder.path(), w.tensors, 40);
  EXPECT_TRUE(fs::exists(folder / "model-00001-of-00003.safetensors"));
  for (const fs::path& opened : {folder.path(), folder / "model.safetensors.index.json"}) {
    const SafetensorsModel model(opened);
    EXPECT_EQ(model.tensors().size(), w.tensors.size());
    for (const StoredTensor& want : w.tensors) expect_equal(model.tensor(want.name), want);
    EXPECT_NE(model.file_of(model.tensor("a")), model.file_of(model.tensor("ids")));
  }
}

TEST(Safetensors, NoTensorsAtAll) {
  const TemporaryFolder folder;
  write_safetensors_model(folder.path(), {});
  EXPECT_TRUE(SafetensorsModel(folder.path()).tensors().empty());
}

TEST(Safetensors, DataMayBeUnaligned) {
  const TemporaryFolder folder;
  const fs::path file =
      folder.put("w.safetensors",
                 file_bytes("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "F32", "[1]", "[1,5]") + "}", 5));
  const SafetensorsFile read(file);
  EXPECT_EQ(load(DType::float32, read.tensors()[1].bytes.data()), std::bit_cast<float>(0x01010101u));
}

// ---- what is hostile

TEST(SafetensorsHostile, Headers) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const TemporaryFolder folder;
  EXPECT_NO_THROW(SafetensorsFile(folder.put("good", file_bytes(good, 8))));
  EXPECT_NO_THROW(SafetensorsFile(folder.put("padded", file_bytes(good + "   \n", 8))));
  EXPECT_NE(complaint_about("").find("want 8 or more"), std::string::npos);
  EXPECT_NE(complaint_about("1234567").find("want 8 or more"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good, 8).substr(0, 30)).find("cut short"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good, 7)).find("cut short"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good, 9)).find("want no rest"), std::string::npos);
  EXPECT_NE(complaint_about(std::string(8, '\xFF') + good).find("want at most"), std::string::npos);
  EXPECT_NE(complaint_about(std::string("\0\0\0\0\1\0\0\0", 8) + good).find("want at most"), std::string::npos);
  EXPECT_NE(complaint_about(std::string(8, '\0')).find("'{'"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(" " + good, 8)).find("'{'"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good.substr(0, 20), 8)).find("header"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good + "x", 8)).find("header"), std::string::npos);
  EXPECT_NE(complaint_about(file_bytes(good + std::string(3, '\0'), 8)).find("is NUL"), std::string::npos);
  std::string deep = R"({"a":)";
  for (int i = 0; i < 100000; ++i) deep += '[';
  EXPECT_NE(complaint_about(file_bytes(deep, 8)).find("header"), std::string::npos);
}

TEST(SafetensorsHostile, Tensors) {
  const auto tensor = [](std::string_view body) { return R"({"w.x":{)" + std::string(body) + "}}"; };
  const struct {
    std::string header;
    std::size_t data;
    const char* part;
  } cases[] = {
      {tensor(R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])"), 8, "\"F8_E4M3\"; want one of F64, F32"},
      {tensor(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"), 8, "dtype is \"f32\""},
      {tensor(R"("dtype":32,"shape":[2],"data_offsets":[0,8])"), 8, "dtype is"},
      {tensor(R"("dtype":"BF16","shape":[2],"data_offsets":[0,8])"), 8, "8 bytes; want 4 for BF16 [2]"},
      {tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8, "8 bytes; want 12 for F32 [3]"},
      {tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8, "an extent of the shape is \"-2\""},
      {tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8, "integer"},
      {tensor(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), 8, "want a list"},
      {tensor(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8])"), 8, "63 bits"},
      {tensor(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])"), 0, "63 bits"},
      {tensor(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), 8, "integer of 0 or more"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8, "backwards"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,16])"), 8, "cut short"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807])"), 8, "cut short"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"), 8, "data_offsets/0"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8, "[begin, end]"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,16])"), 16, "want no hole"},
      {tensor(R"("dtype":"F32","shape":[2])"), 8, "data_offsets is missing"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"sparse":true)"), 8, "unknown key"},
      {R"({"w.x":[]})", 0, "want an object"},
      {R"({"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0, "an empty name"},
      {R"({"w.x\u0000y":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0, "control character"},
      {R"({"__metadata__":{"format":1}})", 0, "/__metadata__/format"},
      {R"({"__metadata__":[]})", 0, "/__metadata__"},
      {"{" + entry("w.x", "F32", "[1]", "[0,4]") + "," + entry("w.x", "F32", "[1]", "[4,8]") + "}", 8, "w.x"},
      {"{" + entry("v", "F32", "[2]", "[0,8]") + "," + entry("w.x", "F32", "[2]", "[4,12]") + "}", 12,
       "inside tensor \"v\", which ends at 8; want no overlap"},
      {"{" + entry("v", "F32", "[2]", "[0,8]") + "," + entry("w.x", "F32", "[2]", "[0,8]") + "}", 8, "want no overlap"},
      {"{" + entry("w.x", "F32", "[2]", "[12,20]") + "," + entry("v", "F32", "[2]", "[0,8]") + "}", 20,
       "4 bytes after tensor \"v\"; want no hole"},
  };
  for (const auto& [header, data, part] : cases) {
    const std::string message = complaint_about(file_bytes(header, data));
    EXPECT_NE(message.find(part), message.npos) << header << "\n" << message;
    for (const char c : message) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << header;
  }
}

// Every file that differs from a right one in one byte of its header is either refused or read without harm.
TEST(SafetensorsHostile, OneByteAtATime) {
  const TemporaryFolder folder;
  const Weights w = some_weights();
  write_safetensors(folder / "w", w.tensors);
  const std::string good = content(folder / "w");
  const std::size_t header_end = 8 + static_cast<unsigned char>(good[0]) + 256 * static_cast<unsigned char>(good[1]);
  int refused = 0, read = 0;
  for (std::size_t i = 0; i < header_end; ++i) {
    for (const char value : {'\0', '9', '"'}) {
      std::string bytes = good;
      if (bytes[i] == value) continue;
      bytes[i] = value;
      try {
        const SafetensorsFile file(folder.put("spoilt", bytes));
        unsigned sum = 0;
        for (const StoredTensor& tensor : file.tensors())
          for (const std::byte b : tensor.bytes) sum += std::to_integer<unsigned>(b);
        ++read;
      } catch (const SafetensorsError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 2 * read);  // names and metadata may change, the rest may not
  for (std::size_t size = 0; size < good.size(); size += 7)
    EXPECT_THROW(SafetensorsFile(folder.put("short", good.substr(0, size))), SafetensorsError) << size;
}

TEST(SafetensorsHostile, NoFileAtAll) {
  const TemporaryFolder folder;
  EXPECT_NE(complaint([&] { SafetensorsFile(folder / "none"); }).find("cannot open"), std::string::npos);
  EXPECT_NE(complaint([&] { SafetensorsFile(folder.path()); }).find("no regular file"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(complaint([&] { SafetensorsFile(folder / "pipe"); }).find("no regular file"), std::string::npos);
  EXPECT_NE(complaint([&] { SafetensorsModel(folder.path()); }).find("want one of them"), std::string::npos);
  EXPECT_NE(complaint([&] { SafetensorsModel(folder / "none.index.json"); }).find("none.index.json"),
            std::string::npos);
}

class SafetensorsIndex : public ::testing::Test {
 protected:
  SafetensorsIndex() {
    write_safetensors_model(folder_.path(), weights_.tensors, 40);
    index_ = content(folder_ / "model.safetensors.index.json");
  }
  std::string complaint_with(const std::string& index) {
    folder_.put("model.safetensors.index.json", index);
    return complaint([&] { SafetensorsModel{folder_.path()}; });
  }
  std::string replaced(std::string_view from, std::string_view to) {
    std::string text = index_;
    return text.replace(text.find(from), from.size(), to);
  }

  TemporaryFolder folder_;
  Weights weights_ = some_weights();
  std::string index_;
};

TEST_F(SafetensorsIndex, MissingShard) {
  fs::remove(folder_ / "model-00002-of-00003.safetensors");
  const std::string message = complaint([&] { SafetensorsModel{folder_.path()}; });
  EXPECT_NE(message.find("model-00002-of-00003.safetensors: the shard is missing"), message.npos) << message;
}
TEST_F(SafetensorsIndex, TensorThatIsNotThere) {
  EXPECT_NE(complaint_with(replaced("\"a\"", "\"z\"")).find("tensor \"a\": model.safetensors.index.json does not say"),
            std::string::npos);
  EXPECT_NE(complaint_with(R"({"weight_map": {"q": "model-00001-of-00003.safetensors"}})").find("does not say"),
            std::string::npos);
  const std::string both = replaced("\"a\": ", "\"z\": \"model-00001-of-00003.safetensors\", \"a\": ");
  EXPECT_NE(complaint_with(both).find("tensor \"z\": is missing"), std::string::npos);
}
TEST_F(SafetensorsIndex, TensorInTwoShards) {
  fs::copy_file(folder_ / "model-00001-of-00003.safetensors", folder_ / "copy.safetensors");
  // Every tensor of the copy is claimed for it, by an index of the two alone: the second claim of a name wins in JSON,
  // so a repeated key is what such an index would need.
  const std::string message =
      complaint_with(R"({"weight_map": {"a": "model-00001-of-00003.safetensors", "a": "copy.safetensors"}})");
  EXPECT_NE(message.find("/weight_map/a"), message.npos) << message;
}
TEST_F(SafetensorsIndex, NoMap) {
  for (const char* index : {"{}", "[]", R"({"weight_map": []})", "", "{"})
    EXPECT_NE(complaint_with(index).find("model.safetensors.index.json: "), std::string::npos) << index;
}
TEST_F(SafetensorsIndex, PathsThatLeadElsewhere) {
  for (const char* name :
       {"../w.safetensors", "/etc/passwd", "sub/w.safetensors", "..", ".", "", "w\\u0000.safetensors"}) {
    const std::string message = complaint_with(std::string(R"({"weight_map": {"a": ")") + name + "\"}}");
    EXPECT_NE(message.find("/weight_map/a: is"), message.npos) << name << message;
  }
  EXPECT_NE(complaint_with(R"({"weight_map": {"a": 3}})").find("/weight_map/a"), std::string::npos);
}

TEST(SafetensorsWriter, RefusesWhatCannotBeRead) {
  const TemporaryFolder folder;
  const std::byte bytes[8] = {};
  const auto write = [&](std::vector<StoredTensor> tensors) { write_safetensors(folder / "w", tensors); };
  EXPECT_THROW(write({{"a", DType::float32, {3}, bytes}}), std::invalid_argument);
  EXPECT_THROW(write({{"", DType::float32, {2}, bytes}}), std::invalid_argument);
  EXPECT_THROW(write({{"__metadata__", DType::float32, {2}, bytes}}), std::invalid_argument);
  EXPECT_THROW(write({{std::string("a\0b", 3), DType::float32, {2}, bytes}}), std::invalid_argument);
  EXPECT_THROW(write({{"a", DType::float32, {2}, bytes}, {"a", DType::float32, {2}, bytes}}), std::invalid_argument);
  EXPECT_THROW(write_safetensors("/no/such/folder/w", {}), SafetensorsError);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace assay::harness
