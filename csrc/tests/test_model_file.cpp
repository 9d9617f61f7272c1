// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Model files, whole, wrong and hostile; JSON; SHA-256.
#include "session/error.h"
#include "session/inflate.h"
#include "session/json.h"
#include "session/model_file.h"
#include "session/sha256.h"
#include "session/zip.h"
#include "tests/check.h"
#include "tests/support.h"

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <sys/resource.h>
#include <unistd.h>

namespace {

const char *kWhole = R"({"tds_model": 1, "name": "m", "version": "2", "scale": 2})";

std::vector<std::pair<std::string, std::string>> archive(const std::string &json) {
    return {{"m/constants.pkl", kEmptyPickle}, {"m/code/a.py", "x"}, {"m/extra/tds.json", json}};
}

tds::ModelFile parsed(const std::string &bytes) {
    return tds::parse_model("m.pt", {bytes.begin(), bytes.end()});
}

// What is said of a file; every such sentence names it.
std::string refusal(const std::string &bytes) {
    try {
        parsed(bytes);
    } catch (const tds::Error &error) {
        CHECK_EQ(error.code(), TDS_ERROR_MODEL);
        CHECK(std::string(error.what()).find("m.pt") != std::string::npos);
        return error.what();
    }
    return "";
}

bool refused(const std::string &json, const char *word) {
    const std::string why = refusal(zip_archive(archive(json)));
    if (why.find(word) == std::string::npos) {
        std::fprintf(stderr, "\"%s\" does not say \"%s\"\n", why.c_str(), word);
        return false;
    }
    return true;
}

} // namespace

TEST("a whole file: what it says, and what it leaves out") {
    const tds::ModelFile plain = parsed(zip_archive(archive(kWhole)));
    CHECK_EQ(plain.name, "m");
    CHECK_EQ(plain.scale, 2);
    CHECK_EQ(plain.alignment, 4);
    CHECK_EQ(plain.features, false);
    CHECK_EQ(plain.no_reference, false);
    CHECK_EQ(plain.cuda_precision, "float32");
    CHECK_EQ(plain.contract, 1);
    CHECK_EQ(plain.references.size(), 2U);
    CHECK_EQ(plain.json, kWhole);
    const tds::ModelFile full = parsed(zip_archive(archive(
        R"({"tds_model": 1, "name": "m", "version": "2", "scale": 4, "bit_depths": [8, 10],
            "alignment": 32, "features": true, "no_reference": true, "cuda_precision": "float16",
            "training": {"summary": "\u00e9", "sources": []}, "unknown": [null, 1.5e3]})")));
    CHECK_EQ(full.bit_depths.size(), 2U);
    CHECK_EQ(full.alignment, 32);
    CHECK(full.features && full.no_reference);
    CHECK_EQ(full.cuda_precision, "float16");
}

TEST("contract 2: slots, precision, halo") {
    const auto with = [](const std::string &more) {
        return R"({"tds_model": 2, "name": "m", "version": "1", "scale": 1, )" + more + "}";
    };
    const tds::ModelFile file = parsed(zip_archive(
        archive(with(R"("references": ["-1", "+8", "full-before", "full-after"], "halo": 32,
                "cpu_precision": "bfloat16")"))));
    CHECK_EQ(file.contract, 2);
    CHECK_EQ(file.references.size(), 4U);
    CHECK_EQ(file.references[0].offset, -1);
    CHECK_EQ(file.references[1].offset, 8);
    CHECK(file.references[2].offset == 0 && !file.references[2].after);
    CHECK(file.references[3].offset == 0 && file.references[3].after);
    CHECK_EQ(file.halo, 32);
    CHECK_EQ(file.cpu_precision, "bfloat16");
    CHECK(file.features && file.no_reference);
    CHECK(refused(with("\"halo\": 8"), "1 to 8 slots"));
    for (const char *slots :
         {"[]", "\"-1\"", R"(["-1","-1","-1","-1","-1","-1","-1","-1","-1"])"}) {
        CHECK(
            !refusal(zip_archive(archive(with(std::string("\"references\": ") + slots)))).empty());
    }
    for (const char *slot : {"\"-9\"", "\"0\"", "\"1\"", "\"\"", "\"full\"", "1", "null"}) {
        CHECK(refused(with(std::string("\"references\": [") + slot + "]"), "full-before"));
    }
    CHECK(refused(with(R"("references": ["-1"], "cpu_precision": "int8")"), "cpu_precision"));
    CHECK(refused(with(R"("references": ["-1"], "halo": -1)"), "halo"));
}

TEST("what does not fit is refused, and the sentence says what") {
    CHECK(refused(R"({"name": "m", "version": "1", "scale": 2})", "tds_model"));
    CHECK(refused(R"({"tds_model": 3, "name": "m", "version": "1", "scale": 2})", "version 3"));
    CHECK(refused(R"({"tds_model": 1, "version": "1", "scale": 2})", "\"name\""));
    CHECK(refused(R"({"tds_model": 1, "name": "m", "version": "1"})", "\"scale\""));
    CHECK(refused(R"({"tds_model": 1, "name": "m", "version": "1", "scale": 3})", "not 1, 2 or 4"));
    CHECK(refused(R"({"tds_model": 1, "name": 5, "version": "1", "scale": 2})", "not a string"));
    CHECK(refused(R"({"tds_model": 1, "name": "m", "version": "1", "scale": 2, "alignment": 6})",
                  "multiple of 4"));
    CHECK(refused(R"({"tds_model": 1, "name": "m", "version": "1", "scale": 2, "alignment": 0})",
                  "multiple of 4"));
    CHECK(refused(R"({"tds_model": 1, "name": "m", "version": "1", "scale": 2, "features": 1})",
                  "true or false"));
    CHECK(refused("[]", "not a JSON object"));
    CHECK(refused("{", "not JSON"));
}

TEST("files that are no TorchScript archive") {
    CHECK(refusal("").find("not a TorchScript archive") != std::string::npos);
    CHECK(refusal("hello, this is no archive at all").find("not a TorchScript") !=
          std::string::npos);
    CHECK(refusal(zip_archive({{"m/data.pkl", "x"}})).find("not a TorchScript") !=
          std::string::npos); // what torch.save writes
    CHECK(refusal(zip_archive({{"m/constants.pkl", kEmptyPickle}, {"m/code/a.py", "x"}}))
              .find("without tds.json") != std::string::npos);
}

TEST("a file cut anywhere, or with any byte changed, is read or refused, never crashes") {
    const std::string whole = zip_archive(archive(kWhole));
    for (size_t n = 0; n < whole.size(); n++) {
        CHECK(!refusal(whole.substr(0, n)).empty());
    }
    for (size_t i = 0; i < whole.size(); i++) {
        for (const char flip : {'\x01', '\x80', '\xff'}) {
            std::string changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ flip);
            refusal(changed);
        }
    }
}

// A pickle as torch writes it, of one float tensor: its storage is record "0".
std::string tensor(uint8_t elements, uint8_t offset, const std::vector<uint8_t> &size,
                   const std::vector<uint8_t> &strides) {
    const auto text = [](const std::string &t) {
        return std::string("X") + static_cast<char>(t.size()) + std::string(3, '\0') + t;
    };
    const auto number = [](uint8_t n) { return std::string("K") + static_cast<char>(n); };
    const auto numbers = [&](const std::vector<uint8_t> &all) {
        std::string out = "(";
        for (const uint8_t n : all) {
            out += number(n);
        }
        return out + "t";
    };
    return "\x80\x02"
           "ctorch._utils\n_rebuild_tensor_v2\nq\x01((" +
           text("storage") + "q\x02" + "ctorch\nFloatStorage\n" + text("0") + text("cpu") +
           number(elements) + "tQ" + number(offset) + numbers(size) + numbers(strides) + "\x89" +
           "ccollections\nOrderedDict\n)RtR.";
}

std::string with_tensor(const std::string &pickle, size_t bytes) {
    auto entries = archive(kWhole);
    entries.emplace_back("m/data.pkl", pickle);
    entries.emplace_back("m/data/0", std::string(bytes, 'w'));
    return refusal(zip_archive(entries));
}

TEST("a record without its checksum is refused, and named") {
    auto entries = archive(kWhole);
    entries.emplace_back("m/data/0", std::string(1000, 'w'));
    std::string bytes = zip_archive(entries);
    CHECK_EQ(refusal(bytes), "");
    const size_t at = bytes.find("wwww") + 500;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    CHECK(refusal(bytes).find("data/0") != std::string::npos);
    CHECK(refusal(bytes).find("checksum") != std::string::npos);
}

// From hexadecimal digits.
std::string bytes_of(const std::string &digits) {
    std::string out;
    for (size_t i = 0; i < digits.size(); i += 2) {
        out += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    }
    return out;
}

TEST("deflate: what zlib wrote, by codes of its own, by fixed ones and stored") {
    std::string text;
    for (int i = 0; i < 40; i++) {
        text += "line " + std::to_string(i * i * 7919 % 1009) + " of some code, " +
                std::to_string(i * i * i % 97) + "\n";
    }
    const std::string dynamic =
        bytes_of("75934b6ec4300c43f73d850fd045f497cfd3a6408199c9a2f707da22f28686b679884851f4e3fb75"
                 "8e635c5fe3e77a9ee3e3fa3cdfc7f1f6f8ff9ce600e806320340dec0950070dcc4620271bd09d3f6"
                 "4f4d33457de635cd8058119ed9380856fc67eda948a4881b4e8b22e4e82d668513188e4b794b6e36"
                 "cd892788724d294d06b4275a3a19e89a563a8e0e7cb9569ca65e3a7234c409730babac27ea683970"
                 "efaec09b4e85a313ad5199d66d9d2c42349b93ea16dbb2668251cbaa68521368083735c8ad06ba8a"
                 "48deecc3db11eac16962df67dd40c99a61b2d5a3f465abeedfe3f905");
    const std::string fixed = bytes_of(
        "cbc9cc4b553050c84f5328cecf4d5548ce4f49d55130e0ca01095b989aa1491842248c2dcd411200");
    const std::string stored =
        bytes_of("013c00c3ff6c696e652030206f6620736f6d6520636f64652c20300a6c696e6520383536206f6620"
                 "736f6d6520636f64652c20310a6c696e6520333937206f6620");
    std::string out;
    CHECK(tds::inflate(fixed, 60, out));
    CHECK_EQ(out, text.substr(0, 60));
    out.clear();
    CHECK(tds::inflate(stored, 60, out));
    CHECK_EQ(out, text.substr(0, 60));
    for (const auto *packed : {&fixed, &stored}) {
        for (size_t i = 0; i < packed->size(); i++) {
            for (int value = 0; value < 256; value++) {
                std::string changed = *packed;
                changed[i] = static_cast<char>(value);
                out.clear();
                tds::inflate(changed, 60, out); // whatever it gives, within bounds
                CHECK(out.size() <= 60);
            }
        }
    }

    tds::Zip::Entry entry;
    entry.stored = dynamic;
    entry.size = text.size();
    entry.crc = tds::crc32(text);
    entry.deflated = true;
    CHECK(tds::read(entry, out));
    CHECK(out == text);
    CHECK(tds::intact(entry));
    for (const uint64_t size : {text.size() - 1, text.size() + 1, size_t{0}}) {
        entry.size = size;
        CHECK(!tds::intact(entry));
    }
    entry.size = text.size();
    for (size_t bit = 0; bit < 8 * (dynamic.size() - 1); bit++) { // the last byte is not full
        std::string changed = dynamic;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
        entry.stored = changed;
        CHECK(!tds::intact(entry));
    }
    for (size_t size = 0; size < dynamic.size(); size++) {
        entry.stored = std::string_view(dynamic).substr(0, size);
        CHECK(!tds::intact(entry));
    }
}

TEST("a tensor lies within its record, or the file is refused") {
    CHECK_EQ(with_tensor(tensor(6, 0, {2, 3}, {3, 1}), 24), "");
    CHECK_EQ(with_tensor(tensor(6, 2, {2, 2}, {1, 2}), 24), "");
    CHECK_EQ(with_tensor(tensor(0, 0, {0, 9}, {9, 1}), 0), "");
    CHECK_EQ(with_tensor(tensor(1, 0, {}, {}), 4), "");
    CHECK(with_tensor(tensor(6, 0, {2, 3}, {3, 1}), 23)
              .find("has 23 bytes and the tensor in it 24") != std::string::npos);
    CHECK(with_tensor(tensor(6, 1, {2, 3}, {3, 1}), 24).find("reaches beyond the 6 numbers") !=
          std::string::npos);
    CHECK(with_tensor(tensor(6, 0, {2, 3}, {4, 1}), 24).find("reaches beyond") !=
          std::string::npos);
    CHECK(with_tensor(tensor(6, 0, {7}, {1}), 24).find("reaches beyond") != std::string::npos);
    CHECK(with_tensor(tensor(6, 0, {2, 3}, {3}), 24).find("not what torch writes") !=
          std::string::npos);
    std::string other = tensor(6, 0, {2, 3}, {3, 1});
    other.replace(other.find("X\x01"), 6, std::string("X\x01\0\0\0", 5) + "1");
    CHECK(with_tensor(other, 24).find("data/1 is missing") != std::string::npos);
}

TEST("a pickle changed anywhere, its checksum made to fit, is read or refused, never crashes") {
    const std::string whole = tensor(6, 0, {2, 3}, {3, 1});
    for (size_t i = 0; i < whole.size(); i++) {
        with_tensor(whole.substr(0, i), 24);
        for (int value = 0; value < 256; value++) {
            std::string changed = whole;
            changed[i] = static_cast<char>(value);
            with_tensor(changed, 24);
        }
    }
    // What would nest, or need memory, without end.
    CHECK(!with_tensor("\x80\x02" + std::string(1000000, '(') + ".", 24).empty());
    CHECK_EQ(with_tensor("\x80\x02)" + std::string(1000000, '\x85') + ".", 24), "");
    CHECK(!with_tensor("\x80\x02)r\xff\xff\xff\xff.", 24).empty());
}

TEST("what a file claims, or says often, costs no memory") {
    const auto peak = [] {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        return usage.ru_maxrss; // kB
    };
    // A megabyte of text, remembered, then said a thousand times more.
    std::string again = "\x80\x02(X" + std::string("\0\0\x10\0", 4) + std::string(1 << 20, 't');
    again += std::string("q\0", 2);
    for (int i = 0; i < 1000; i++) {
        again += std::string("h\0", 2);
    }
    const long before = peak();
    CHECK_EQ(with_tensor(again + "t.", 24), "");
    CHECK(peak() - before < 200000);
    // A deflated record of four gigabytes.
    std::string bytes = zip_archive(archive(kWhole));
    const size_t entry = bytes.rfind("m/code/a.py") - 46;
    bytes[entry + 10] = 8;
    bytes.replace(entry + 24, 4, "\xfe\xff\xff\xff");
    CHECK(refusal(bytes).find("not a TorchScript archive") != std::string::npos);
}

TEST("a damaged record outside the archive's own folder is named") {
    auto entries = archive(kWhole);
    entries.emplace_back("a", "whole");
    std::string bytes = zip_archive(entries);
    bytes[bytes.find("awhole") + 1] = 'W';
    CHECK(refusal(bytes).find("its record a does not have the checksum") != std::string::npos);
}

TEST("a model for another k, or with another hash, opens no session") {
    const std::string path = model_file("k2.pt", 2, false);
    const auto open = [&](int32_t scale, const char *sha256) {
        tds_settings s;
        tds_default_settings(&s);
        s.width = s.height = 64;
        s.scale = scale;
        s.model = path.c_str();
        s.model_sha256 = sha256;
        s.backend = "record";
        tds_session *session = nullptr;
        const tds_result result = tds_session_open(&s, &session);
        tds_session_close(session);
        return result;
    };
    CHECK_EQ(open(4, nullptr), TDS_ERROR_MODEL);
    CHECK(std::string(tds_last_error()).find("k = 2") != std::string::npos);
    CHECK_EQ(open(2, std::string(64, '0').c_str()), TDS_ERROR_MODEL);
    CHECK(std::string(tds_last_error()).find("sha256") != std::string::npos);
    const std::vector<char> bytes = tds::read_model_bytes(path);
    std::string hash = tds::sha256_hex(bytes.data(), bytes.size());
    CHECK_EQ(open(2, hash.c_str()), TDS_OK);
    for (char &c : hash) {
        c = static_cast<char>(std::toupper(c));
    }
    CHECK_EQ(open(2, hash.c_str()), TDS_OK);
}

TEST("metadata is read without a backend") {
    const std::string path = model_file("meta.pt", 4, true);
    char *json = nullptr;
    CHECK_EQ(tds_model_metadata(path.c_str(), &json), TDS_OK);
    CHECK(std::string(json).find("\"scale\": 4") != std::string::npos);
    tds_free(json);
    CHECK_EQ(tds_model_metadata("/nowhere/m.pt", &json), TDS_ERROR_MODEL);
    CHECK(json == nullptr);
    CHECK(std::string(tds_last_error()).find("/nowhere/m.pt") != std::string::npos);
    CHECK_EQ(tds_model_metadata(TEST_FOLDER, &json), TDS_ERROR_MODEL);
}

TEST("a backend that is not there") {
    CHECK_EQ(tds_backend_available("bicubic"), TDS_OK);
    CHECK_EQ(tds_backend_available("record"), TDS_OK);
    CHECK_EQ(tds_backend_available("tensorrt"), TDS_ERROR_UNSUPPORTED);
    CHECK(std::string(tds_last_error()).find("libtds_tensorrt.so") != std::string::npos);
    CHECK_EQ(tds_backend_available("../evil"), TDS_ERROR_INVALID);
    char devices[64];
    CHECK_EQ(tds_backend_devices("bicubic", devices, sizeof(devices)), TDS_OK);
    CHECK_EQ(std::string(devices), "cpu");
}

TEST("JSON") {
    const auto refuse = [](const std::string &text) -> std::string {
        try {
            tds::parse_json(text);
        } catch (const std::runtime_error &error) {
            return error.what();
        }
        return "";
    };

    const tds::Json json = tds::parse_json(
        " {\"a\": [1, -2.5e2, true, false, null, \"x\\n\\\"\\u20ac\\ud83d\\ude00\"], \"b\": {}} ");
    const tds::Json &list = *tds::find(json, "a");
    CHECK_EQ(list.size(), 6U);
    CHECK_EQ(list[1].get<double>(), -250.0);
    CHECK_EQ(list[5].get<std::string>(), "x\n\"\xe2\x82\xac\xf0\x9f\x98\x80");
    CHECK(tds::find(json, "c") == nullptr);
    CHECK(tds::find(list, "a") == nullptr);
    for (const char *bad : {"", "{", "[1,]", "{\"a\" 1}", "tru", "1 2", "\"\\x\"", "\"\\u12g4\"",
                            "\"", "{1: 2}", "-", "1e", "\"a\nb\"", "\"\xff\"", "1e999", "NaN"}) {
        const std::string why = refuse(bad);
        if (why.compare(0, 10, "not JSON: ") != 0 ||
            std::any_of(why.begin(), why.end(), [](char c) { return c < 0x20 || c > 0x7e; })) {
            CHECK_EQ(why, std::string("an error for ") + bad);
        }
    }
    const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    CHECK_EQ(refuse(nested(64)), "");
    CHECK_EQ(refuse(nested(65)), "not JSON: nested too deeply");
    CHECK_EQ(refuse(std::string(10000000, '[')), "not JSON: nested too deeply");
}

TEST("JSON: numbers do not follow the host program's locale") {
    if (!std::setlocale(LC_NUMERIC, "de_DE.UTF-8")) {
        return; // not installed here
    }
    CHECK_EQ(tds::parse_json("1.5").get<double>(), 1.5);
    std::setlocale(LC_NUMERIC, "C");
}

TEST("SHA-256: the standard's examples") {
    CHECK_EQ(tds::sha256_hex("", 0),
             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_EQ(tds::sha256_hex("abc", 3),
             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK_EQ(tds::sha256_hex(two.data(), two.size()),
             "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string million(1000000, 'a');
    CHECK_EQ(tds::sha256_hex(million.data(), million.size()),
             "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("a model is found by file, by name and by default") {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("tds_find_" + std::to_string(getpid()));
    for (const char *name :
         {"one/fast-k2.pt", "two/fast-k2.pt", "two/standard-k2.pt", "two/odd-k2.name-k4.pt",
          "two/bare-k2.safetensors", "cache/exported/late-k2-0123456789abcdef-01234567.pt"}) {
        fs::create_directories((folder / name).parent_path());
        std::ofstream(folder / name) << "x";
    }
    setenv("TDS_MODEL_PATH", ((folder / "one").string() + "::" + (folder / "two").string()).c_str(),
           1);
    setenv("TDS_CACHE", (folder / "cache").c_str(), 1);
    char path[4096];
    const auto found = [&](const char *name, int32_t scale, const char *device) -> std::string {
        const tds_result result = tds_model_find(name, scale, device, path, sizeof(path));
        return result == TDS_OK ? path : "error " + std::to_string(result);
    };
    const std::string none = "error " + std::to_string(TDS_ERROR_MODEL);
    CHECK_EQ(found("fast", 2, nullptr), (folder / "one/fast-k2.pt").string());
    CHECK_EQ(found("standard", 2, nullptr), (folder / "two/standard-k2.pt").string());
    CHECK_EQ(found("odd-k2.name", 4, nullptr), (folder / "two/odd-k2.name-k4.pt").string());
    CHECK_EQ(found(nullptr, 2, "cpu"), (folder / "one/fast-k2.pt").string());
    CHECK_EQ(found(nullptr, 2, "cuda:0"), (folder / "two/standard-k2.pt").string());
    CHECK_EQ(found("late", 2, nullptr).find("late-k2-") != std::string::npos, true);
    const std::string file = (folder / "two/fast-k2.pt").string();
    CHECK_EQ(found(file.c_str(), 2, nullptr), none); // a file is looked into
    CHECK(std::string(tds_last_error()).find("not a TorchScript archive") != std::string::npos);
    CHECK_EQ(found("fast", 4, nullptr), none);
    CHECK(std::string(tds_last_error()).find((folder / "two").string()) != std::string::npos);
    CHECK_EQ(found(nullptr, 4, "cpu"), none); // nor is any model taken that was not meant to be
    CHECK_EQ(found("bare", 2, nullptr), none);
    CHECK(std::string(tds_last_error()).find("tds export") != std::string::npos);
    CHECK_EQ(found("/nowhere/fast-k2.pt", 2, nullptr), none);
    CHECK_EQ(found("fast", 3, nullptr), "error " + std::to_string(TDS_ERROR_INVALID));
    CHECK_EQ(tds_model_find("fast", 2, nullptr, path, 4), TDS_ERROR_INVALID);
    CHECK_EQ(tds_model_find("fast", 2, nullptr, nullptr, 0), TDS_ERROR_INVALID);
    fs::remove_all(folder);
}

namespace {

// A tag that names a model, or none.
tds_tag *tag_of(const std::string &more) {
    const std::string text =
        R"({"tds":1,"scale":2,"width":64,"height":48,"boundaries":"shared","groups":[[-5,1]],)"
        R"("timeline":{"time_base":"1/25","frames":5,"rate":"25"})" +
        more + "}";
    tds_tag *tag = nullptr;
    CHECK_EQ(tds_tag_parse(text.data(), text.size(), "x", &tag), TDS_OK);
    return tag;
}

} // namespace

TEST("which model is used, and what is said about it") {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / ("tds_choose_" + std::to_string(getpid()));
    const auto put = [&](const std::string &name, const std::string &bytes) {
        fs::create_directories((folder / name).parent_path());
        std::ofstream(folder / name, std::ios::binary) << bytes;
        return tds::sha256_hex(bytes.data(), bytes.size());
    };
    const auto model = [&](const std::string &name, int scale, const std::string &weights) {
        return zip_archive(archive(R"({"tds_model": 1, "name": ")" + name +
                                   R"(", "version": "1", "scale": )" + std::to_string(scale) +
                                   R"(, "weights_sha256": ")" + weights + "\"}"));
    };
    const std::string weights = put("first/fast-k2.safetensors", "weights");
    const std::string mine = put("second/mine-k2.pt", model("mine", 2, std::string(64, 'b')));
    put("second/mine-k1.pt", model("mine", 1, std::string(64, 'c')));
    put("second/fast-k2.pt", model("fast", 2, std::string(64, 'd')));
    put("cache/exported/fast-k2-" + weights.substr(0, 16) + "-00000000.pt",
        model("fast", 2, weights));
    put("cache/exported/fast-k2-0123456789abcdef-00000000.pt", "of other weights");
    setenv("TDS_MODEL_PATH", (folder / "first").c_str(), 1);
    setenv("TDS_CACHE", (folder / "cache").c_str(), 1);
    const std::string second = (folder / "second").string();
    tds_model_request request{};
    request.scale = 2;
    request.device = "cpu";
    request.folders = second.c_str();
    tds_model_choice choice;
    const auto chosen = [&] {
        const tds_result result = tds_model_choose(&request, &choice);
        return result == TDS_OK ? fs::path(choice.path).lexically_relative(folder).string()
                                : std::string("error: ") + tds_last_error();
    };
    const auto says = [&](const char *part) {
        return std::string(choice.notices).find(part) != std::string::npos;
    };

    // By default: the archive of the installed weights, or the weights for who can use them.
    const std::string exported = "cache/exported/fast-k2-" + weights.substr(0, 16) + "-00000000.pt";
    CHECK_EQ(chosen(), exported);
    CHECK_EQ(std::string(choice.name), "fast");
    CHECK_EQ(std::string(choice.notices), "");
    request.weights = 1;
    CHECK_EQ(chosen(), "first/fast-k2.safetensors");
    request.weights = 0;

    // By a person: a name, a file, with a hash of either kind.
    request.model = "mine";
    request.refine_hr = 1;
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    CHECK_EQ(fs::path(choice.hr_path).filename().string(), "mine-k1.pt");
    CHECK_EQ(choice.of_tag, 0);
    const std::string file = (folder / "second/mine-k2.pt").string();
    request.model = file.c_str();
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    CHECK_EQ(fs::path(choice.hr_path).filename().string(), "mine-k1.pt");
    request.sha256 = mine.c_str();
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    const std::string of_weights(64, 'B');
    request.sha256 = of_weights.c_str();
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    const std::string wrong(64, '0');
    request.sha256 = wrong.c_str();
    CHECK_EQ(tds_model_choose(&request, &choice), TDS_ERROR_INVALID);
    request.sha256 = nullptr;
    request.scale = 4;
    CHECK(chosen().find("is a model for k = 2, and this video needs one for k = 4") !=
          std::string::npos);
    request.scale = 2;
    request.model = nullptr;
    request.refine_hr = 0;

    // By the tag: the same, another version, none of that name.
    const std::string same = ",\"model\":\"mine\",\"model_sha256\":\"" + mine + "\"";
    const std::string strengths = ",\"strengths\":[[1,5]]";
    tds_tag *tag = tag_of(same + strengths);
    request.tag = tag;
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    CHECK_EQ(choice.of_tag, 1);
    CHECK_EQ(std::string(choice.notices), "");
    request.model = "fast"; // a person's word goes first
    CHECK_EQ(chosen(), exported);
    CHECK_EQ(choice.of_tag, 0);
    CHECK(says("for the model mine alone and are not used"));
    request.model = nullptr;
    tds_tag_free(tag);

    request.tag = tag =
        tag_of(",\"model\":\"mine\",\"model_sha256\":\"" + wrong + "\"" + strengths);
    CHECK_EQ(chosen(), "second/mine-k2.pt");
    CHECK_EQ(choice.of_tag, 0);
    CHECK(says("another version") && says("strengths"));
    tds_tag_free(tag);

    request.tag = tag = tag_of(",\"model\":\"lost\"");
    CHECK_EQ(chosen(), exported);
    CHECK(says("made for the model lost, which is not here"));
    request.refine_hr = 1;
    CHECK_EQ(chosen(), exported);
    CHECK_EQ(std::string(choice.hr_path), "");
    CHECK(says("they pass as they are"));
    tds_tag_free(tag);
    request.tag = nullptr;

    // None at all.
    fs::remove(folder / exported);
    fs::remove(folder / "second/fast-k2.pt");
    fs::remove(folder / "cache/exported/fast-k2-0123456789abcdef-00000000.pt");
    CHECK(chosen().find("no model is installed for k = 2") != std::string::npos);
    CHECK(chosen().find("there is: mine") != std::string::npos);
    fs::remove_all(folder);
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
