// Fixtures that are wrong: each is refused with the file, a JSON pointer, what was found and what is wanted.
#include <gtest/gtest.h>
#include <unistd.h>

#include "harness/io/fixture.h"
#include "harness/io/temporary_folder.h"

namespace assay::harness {
namespace {

const std::string kHead =
    R"({"schema":1,"name":"n","layer":"rms_norm","path":"train","provenance":{"by":"hand"},"config":{},"attributes":{"eps":1e-05},)";
std::string with_tensors(const std::string& tensors) { return kHead + "\"tensors\":" + tensors + "}"; }
std::string with_tensor(const std::string& tensor) { return with_tensors(R"({"input.x":)" + tensor + "}"); }
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the test replaces nothing");
  return text.replace(at, from.size(), to);
}
const std::string kGood = with_tensor(R"({"dtype":"float32","shape":[2,2],"data":[1,2.5,"inf",-4]})");

std::filesystem::path smallest_upstream_file() {
  std::filesystem::path result;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(ASSAY_GOLDEN) + "/upstream")) {
    if (entry.path().extension() == ".json" && (result.empty() || entry.file_size() < file_size(result)))
      result = entry.path();
  }
  return result;
}

class HostileFixture : public ::testing::Test {
 protected:
  // The message without the file, which must open it.
  std::string error_of(const std::string& text) {
    const auto file = folder_.put("f.json", text);
    try {
      read_fixture(file);
    } catch (const FixtureError& error) {
      const std::string what = error.what();
      EXPECT_TRUE(what.starts_with(file.string() + ": /")) << what;
      EXPECT_NE(what.find("; want "), std::string::npos) << what;
      EXPECT_LT(what.size(), 1000u);
      return what.substr(file.string().size() + 2);
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

TEST_F(HostileFixture, TheGoodOneIsRead) { EXPECT_EQ(error_of(kGood), "no error"); }

TEST_F(HostileFixture, EveryTruncationIsRefused) {
  for (std::size_t size = 0; size < kGood.size(); ++size)
    EXPECT_NE(error_of(kGood.substr(0, size)), "no error") << size;
  const std::string upstream = content(smallest_upstream_file());
  ASSERT_GT(upstream.size(), 1'000u);
  for (std::size_t size = 0; size < upstream.size(); size += 97)
    EXPECT_NE(error_of(upstream.substr(0, size)), "no error") << size;
}

TEST_F(HostileFixture, EveryFlippedByteIsReadOrRefused) {
  for (std::size_t at = 0; at < kGood.size(); ++at)
    for (const char c : {'\0', '"', '[', '}', '9', '-', '\xFF'}) {
      std::string text = kGood;
      text[at] = c;
      error_of(text);  // an error or none, but no crash and no other exception
    }
}

TEST_F(HostileFixture, Documents) {
  EXPECT_EQ(error_of(""), "/: the file is empty; want JSON");
  EXPECT_NE(error_of("\x7f"
                     "ELF\x02\x01")
                .find("parse error"),
            std::string::npos);
  EXPECT_NE(error_of("just text").find("parse error"), std::string::npos);
  EXPECT_EQ(error_of("[]"), "/: a list; want an object");
  EXPECT_EQ(error_of("7"), "/: a single value; want an object");
  EXPECT_EQ(error_of("{}"), "/: no key \"schema\"; want schema 1 with all its keys");
  EXPECT_NE(error_of(std::string(1'000'000, '[')), "no error");
  EXPECT_NE(error_of(with_tensor(std::string(100'000, '['))).find("/tensors/input.x: a list"), std::string::npos);
  EXPECT_NE(error_of(kHead + "\"config2\":" + std::string(100'000, '[')).find("/config2: unknown key"),
            std::string::npos);
  EXPECT_NE(error_of(replaced(kGood, R"("config":{})", R"("config":{"a":)" + std::string(100'000, '[')))
                .find("nested deeper"),
            std::string::npos);
  EXPECT_EQ(error_of("\xEF\xBB\xBF" + kGood), "no error");  // a byte order mark changes nothing
  EXPECT_NE(error_of(replaced(kGood, "hand", "h\xFFnd")).find("/provenance/by: parse error"), std::string::npos);
  EXPECT_NE(error_of(kGood + kGood).find("expected end of input"), std::string::npos);
}

TEST_F(HostileFixture, Keys) {
  EXPECT_TRUE(error_of(replaced(kGood, R"("name")", R"("nam")")).starts_with("/nam: unknown key; want schema, name"));
  EXPECT_EQ(error_of(replaced(kGood, R"("name":"n",)", "")), "/: no key \"name\"; want schema 1 with all its keys");
  EXPECT_EQ(error_of(kHead.substr(0, kHead.size() - 1) + "}"),
            "/: no key \"tensors\"; want schema 1 with all its keys");
  EXPECT_EQ(error_of(replaced(kGood, R"("schema":1)", R"("schema":2)")),
            "/schema: unknown schema; want 1, the one this program reads");
  EXPECT_NE(error_of(replaced(kGood, R"("schema":1)", R"("schema":"1")")), "no error");
  EXPECT_NE(error_of(replaced(kGood, R"("schema":1)", R"("schema":1.0)")), "no error");
  EXPECT_EQ(error_of(replaced(kGood, R"("name":"n")", R"("name":"n","name":"m")")),
            "/name: the key appears twice; want it once");
  EXPECT_EQ(error_of(replaced(kGood, R"("name":"n")", R"("name":7)")),
            "/name: no name; want a string of 1 to 200 bytes");
  EXPECT_NE(error_of(replaced(kGood, R"("name":"n")", R"("name":"")")), "no error");
  EXPECT_EQ(error_of(replaced(kGood, R"("name":"n")", R"("name":["n"])")),
            "/name: a list; want a string of 1 to 200 bytes");
  EXPECT_EQ(error_of(replaced(kGood, R"("config":{})", R"("config":[])")), "/config: a list; want an object");
  EXPECT_EQ(error_of(replaced(kGood, R"("config":{})", R"("config":null)")), "/config: no object; want an object");
  EXPECT_EQ(error_of(replaced(kGood, R"({"by":"hand"})", "{}")),
            "/provenance: empty; want where the numbers came from");
  EXPECT_NE(error_of(replaced(kGood, "1e-05", "1e400")).find("/attributes/eps: number overflow"), std::string::npos);
}

TEST_F(HostileFixture, TensorNames) {
  const auto named = [](const std::string& name) {
    return with_tensors("{\"" + name + R"(":{"dtype":"float32","shape":[],"data":[1]}})");
  };
  EXPECT_EQ(error_of(named("input.x")), "no error");
  EXPECT_EQ(error_of(named("decode.12.output.x")), "no error");
  for (const char* name :
       {"", "x", "input", "input.", ".input.x", "input..x", "inputs.x", "input.a b", "input.\\u0000x",
        "decode.output.x", "decode.1", "decode.-1.x", "step.x.y", "input./x", "expected.x"}) {
    EXPECT_NE(error_of(named(name)), "no error") << name;
  }
  EXPECT_NE(error_of(named("input." + std::string(100'000, 'x'))), "no error");
  EXPECT_EQ(error_of(named(R"(input.x":{"dtype":"float32","shape":[],"data":[1]},"input.x)")),
            "/tensors/input.x: the key appears twice; want it once");
}

TEST_F(HostileFixture, Tensors) {
  EXPECT_EQ(error_of(with_tensors("[]")), "/tensors: a list; want an object");
  EXPECT_EQ(error_of(with_tensors("3")), "/tensors: no object; want an object");
  EXPECT_EQ(error_of(with_tensor("[1]")), "/tensors/input.x: a list; want {\"dtype\", \"shape\", \"data\"}");
  EXPECT_EQ(error_of(with_tensor("1")), "/tensors/input.x: no object; want {\"dtype\", \"shape\", \"data\"}");
  EXPECT_EQ(error_of(with_tensor("{}")), "/tensors/input.x: no key \"dtype\"; want dtype, shape, data");
  EXPECT_EQ(error_of(with_tensor(R"({"dtype":"float32","shape":[0]})")),
            "/tensors/input.x: no key \"data\"; want dtype, shape, data");
  EXPECT_EQ(error_of(with_tensor(R"({"dtype":"float32","data":[0]})")),
            "/tensors/input.x: no key \"shape\"; want dtype, shape, data");
  EXPECT_EQ(error_of(with_tensor(R"({"dtype":"float32","shape":[0],"data":[],"strides":[1]})")),
            "/tensors/input.x/strides: a container; want the keys dtype, shape and data only");
  EXPECT_EQ(error_of(with_tensor(R"({"dtype":"float32","shape":[0],"data":[],"order":"C"})")),
            "/tensors/input.x/order: unknown key; want the keys dtype, shape and data only");
  EXPECT_TRUE(error_of(with_tensor(R"({"dtype":"float8","shape":[0],"data":[]})"))
                  .starts_with("/tensors/input.x/dtype: dtype \"float8\""));
  EXPECT_EQ(error_of(with_tensor(R"({"dtype":"f32","shape":[0],"data":[]})")),
            "/tensors/input.x/dtype: \"f32\" is a short name; want \"float32\"");
  EXPECT_NE(error_of(with_tensor(R"({"dtype":3,"shape":[0],"data":[]})")), "no error");
  EXPECT_NE(error_of(with_tensor(R"({"dtype":["float32"],"shape":[0],"data":[]})")), "no error");
}

TEST_F(HostileFixture, Shapes) {
  const auto shaped = [](const std::string& shape) {
    return with_tensor(R"({"dtype":"float32","data":[1,2],"shape":)" + shape + "}");
  };
  EXPECT_EQ(error_of(shaped("[2]")), "no error");
  EXPECT_EQ(error_of(shaped("[3]")), "/tensors/input.x: 2 values in data; want 3, the product of shape [3]");
  EXPECT_EQ(error_of(shaped("[1]")), "/tensors/input.x: 2 values in data; want 1, the product of shape [1]");
  EXPECT_EQ(error_of(shaped("[]")), "/tensors/input.x: 2 values in data; want 1, the product of shape []");
  EXPECT_EQ(error_of(shaped("[2,-1]")), "/tensors/input.x/shape/1: no size; want an integer of 0 or more");
  EXPECT_NE(error_of(shaped("[2.0]")), "no error");
  EXPECT_NE(error_of(shaped("[\"2\"]")), "no error");
  EXPECT_NE(error_of(shaped("[[2]]")), "no error");
  EXPECT_NE(error_of(shaped("2")), "no error");
  EXPECT_NE(error_of(shaped("{}")), "no error");
  EXPECT_NE(error_of(shaped("[1e300]")), "no error");
  EXPECT_NE(error_of(shaped("[4294967296,4294967296,4294967296]")).find("overflows"), std::string::npos);
  EXPECT_NE(error_of(shaped("[4611686018427387904]")).find("2 values in data; want 4611686018427387904"),
            std::string::npos);
  EXPECT_NE(error_of(shaped("[1,1,1,1,1,1,1,1,2]")).find("more axes than 8"), std::string::npos);
  EXPECT_NE(error_of(replaced(kGood, "[2,2]", "[1073741824,1073741824]")).find("4 values in data"), std::string::npos);
}

TEST_F(HostileFixture, Data) {
  const auto filled = [](const std::string& dtype, const std::string& data) {
    return with_tensor(R"({"dtype":")" + dtype + R"(","shape":[2],"data":[1,)" + data + "]}");
  };
  const std::string at = "/tensors/input.x/data/1: ";
  EXPECT_EQ(error_of(filled("float32", "\"nan\"")), at + "NaN; want a number: NaN is no expected value");
  EXPECT_NE(error_of(filled("float32", "NaN")), "no error");
  EXPECT_NE(error_of(filled("float32", "Infinity")), "no error");
  EXPECT_NE(error_of(filled("float32", "1e400")).find("number overflow"), std::string::npos);
  EXPECT_EQ(error_of(filled("float32", "1e39")), at + "1e39 overflows float32; want a finite number");
  EXPECT_NE(error_of(filled("float32", std::string(100'000, '9'))), "no error");
  EXPECT_NE(error_of(filled("bfloat16", "0.1")).find(at + "0.1 is no bfloat16"), std::string::npos);
  EXPECT_NE(error_of(filled("float32", "null")).find(at + "null; want a number"), std::string::npos);
  EXPECT_NE(error_of(filled("float32", "\"1\"")), "no error");
  EXPECT_EQ(error_of(filled("float32", "[1]")), at + "a container; want a flat list of numbers, row-major");
  EXPECT_EQ(error_of(filled("float32", "{}")), at + "a container; want a flat list of numbers, row-major");
  EXPECT_NE(error_of(filled("int64", "1.5")).find("1.5 is no int64"), std::string::npos);
  EXPECT_NE(error_of(filled("bool", "2")).find("2 is no bool"), std::string::npos);
  EXPECT_NE(error_of(filled("int64", "\"inf\"")), "no error");
  // The same when the dtype stands behind the data.
  const std::string late = R"({"data":[1,"nan"],"shape":[2],"dtype":"float32"})";
  EXPECT_NE(error_of(with_tensor(late)).find("NaN; want a number"), std::string::npos);
  EXPECT_NE(error_of(with_tensor(R"({"data":[1,"i\u0000nf"],"shape":[2],"dtype":"float32"})")), "no error");
}

TEST_F(HostileFixture, Files) {
  const auto error = [](const std::filesystem::path& file) -> std::string {
    try {
      read_fixture(file);
    } catch (const FixtureError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(error(folder_ / "none.json").find("No such file"), std::string::npos);
  EXPECT_NE(error(folder_.path()).find("is a folder"), std::string::npos);
  EXPECT_NE(error("/dev/zero").find("want a regular file"), std::string::npos);
  const auto huge = folder_.put("huge.json", "");
  std::filesystem::resize_file(huge, (std::uintmax_t{512} << 20) + 1);  // sparse
  EXPECT_NE(error(huge).find("536870913 bytes; want at most 536870912"), std::string::npos);
  if (::geteuid() != 0) {
    const auto secret = folder_.put("secret.json", kGood);
    std::filesystem::permissions(secret, std::filesystem::perms::none);
    EXPECT_NE(error(secret).find("Permission denied"), std::string::npos);
  }
}

}  // namespace
}  // namespace assay::harness
