// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/torch_archive.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace tds {
namespace {

constexpr const char *kAgain = ": the file is damaged, fetch it or export the model again";

// -------------------------------------------------------------- pickle --
//
// A pickle is a program for a machine with a stack. This one runs the instructions that torch
// knows (torch/csrc/jit/serialization/unpickler.cpp) and makes nothing of them but what is
// said about tensors: a storage is (type, record, elements), and a tensor is a storage, an
// offset, a size and strides. What it does not know it refuses, so torch gets nothing else.

struct Value {
    enum class Kind { other, integer, text, type, storage, tuple };
    Kind kind = Kind::other;
    int64_t number = 0;      // integer; type: bytes an element; storage: elements
    std::string_view text{}; // of the pickle: however often it is said, it is there once
    std::shared_ptr<const std::vector<Value>> items{};
    int depth = 0; // of tuples
};

constexpr int kDeepest = 4; // tuples below are not looked into; tensors' are one deep

// Bytes an element of torch.`name` has; 0 for what is no storage of dense numbers.
int64_t element_size(const std::string &name) {
    static const std::map<std::string, int64_t> sizes{
        {"Double", 8},        {"Float", 4},  {"Half", 2},         {"BFloat16", 2},
        {"Long", 8},          {"Int", 4},    {"Short", 2},        {"Char", 1},
        {"Byte", 1},          {"Bool", 1},   {"ComplexFloat", 8}, {"ComplexDouble", 16},
        {"UInt16", 2},        {"UInt32", 4}, {"UInt64", 8},       {"ComplexHalf", 4},
        {"QInt8", 1},         {"QUInt8", 1}, {"QInt32", 4},       {"Float8_e5m2", 1},
        {"Float8_e4m3fn", 1},
    };
    const std::string end = "Storage";
    if (name.size() <= end.size() || name.compare(name.size() - end.size(), end.size(), end) != 0) {
        return 0;
    }
    const auto at = sizes.find(name.substr(0, name.size() - end.size()));
    return at == sizes.end() ? 0 : at->second;
}

class Pickle {
  public:
    // Called with (record, bytes) for every storage.
    using Storage = std::function<void(const std::string &, uint64_t)>;

    Pickle(std::string name, std::string_view text, Storage storage)
        : name_(std::move(name)), text_(text), storage_(std::move(storage)) {}

    void run() {
        if (number(1) != 0x80 || number(1) != 2) {
            fail();
        }
        while (step()) {
        }
        if (stack_.size() != 1) {
            fail();
        }
    }

  private:
    [[noreturn]] void fail() const {
        throw std::runtime_error("its record " + name_ + " is not what torch writes, at byte " +
                                 std::to_string(at_) + kAgain);
    }

    std::string_view bytes(uint64_t count) {
        if (count > text_.size() - at_) {
            fail();
        }
        at_ += count;
        return text_.substr(at_ - count, count);
    }

    uint64_t number(int count) {
        const std::string_view data = bytes(static_cast<uint64_t>(count));
        uint64_t value = 0;
        for (int i = count - 1; i >= 0; i--) {
            value = value << 8 | static_cast<uint8_t>(data[static_cast<size_t>(i)]);
        }
        return value;
    }

    std::string line() {
        const size_t end = text_.find('\n', at_);
        if (end == std::string_view::npos) {
            fail();
        }
        const std::string out(text_.substr(at_, end - at_));
        at_ = end + 1;
        return out;
    }

    Value pop() {
        if (stack_.empty()) {
            fail();
        }
        Value value = std::move(stack_.back());
        stack_.pop_back();
        return value;
    }

    void push(Value::Kind kind = Value::Kind::other, int64_t n = 0, std::string_view text = {}) {
        Value value;
        value.kind = kind;
        value.number = n;
        value.text = text;
        stack_.push_back(std::move(value));
    }

    // Takes what lies above the last mark; at least `below` values must lie below it.
    std::vector<Value> above_mark(size_t below) {
        if (marks_.empty() || marks_.back() > stack_.size() || marks_.back() < below) {
            fail();
        }
        const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
        std::vector<Value> out(std::make_move_iterator(begin),
                               std::make_move_iterator(stack_.end()));
        stack_.erase(begin, stack_.end());
        marks_.pop_back();
        return out;
    }

    std::vector<Value> popped(size_t count) {
        std::vector<Value> out(count);
        for (size_t i = count; i-- > 0;) {
            out[i] = pop();
        }
        return out;
    }

    void tuple(std::vector<Value> items) {
        if (!items.empty() && items[0].kind == Value::Kind::storage) {
            check_tensor(items);
        }
        Value value;
        for (const Value &item : items) {
            value.depth = std::max(value.depth, item.depth + 1);
        }
        if (value.depth <= kDeepest) { // deeper ones would nest destructors as deeply
            value.kind = Value::Kind::tuple;
            value.items = std::make_shared<const std::vector<Value>>(std::move(items));
        } else {
            value.depth = 0;
        }
        stack_.push_back(std::move(value));
    }

    // (storage, offset, size, strides, ...): the last element must lie in the storage.
    void check_tensor(const std::vector<Value> &items) const {
        const auto is = [&](size_t i, Value::Kind kind) {
            return i < items.size() && items[i].kind == kind;
        };
        if (!is(1, Value::Kind::integer) || !is(2, Value::Kind::tuple) ||
            !is(3, Value::Kind::tuple) || items[2].items->size() != items[3].items->size()) {
            fail();
        }
        uint64_t last = static_cast<uint64_t>(items[1].number);
        bool empty = false;
        bool fits = items[1].number >= 0;
        for (size_t i = 0; i < items[2].items->size(); i++) {
            const Value &size = (*items[2].items)[i];
            const Value &stride = (*items[3].items)[i];
            if (size.kind != Value::Kind::integer || stride.kind != Value::Kind::integer) {
                fail();
            }
            if (size.number < 0 || stride.number < 0) {
                fits = false;
                break;
            }
            empty = empty || size.number == 0;
            uint64_t step = 0;
            fits = fits &&
                   !__builtin_mul_overflow(static_cast<uint64_t>(size.number) -
                                               (size.number > 0 ? 1U : 0U),
                                           static_cast<uint64_t>(stride.number), &step) &&
                   !__builtin_add_overflow(last, step, &last);
        }
        if (!fits || (!empty && last >= static_cast<uint64_t>(items[0].number))) {
            throw std::runtime_error("a tensor in its record " + name_ + " reaches beyond the " +
                                     std::to_string(items[0].number) + " numbers there are for it" +
                                     kAgain);
        }
    }

    // ("storage", type, record, device, elements)
    void persistent() {
        const Value value = pop();
        if (value.kind != Value::Kind::tuple || value.items->size() < 5) {
            fail();
        }
        const std::vector<Value> &items = *value.items;
        if (items[0].text != "storage" || items[1].kind != Value::Kind::type ||
            items[2].kind != Value::Kind::text || items[4].kind != Value::Kind::integer) {
            fail();
        }
        uint64_t size = 0;
        if (items[4].number < 0 ||
            __builtin_mul_overflow(static_cast<uint64_t>(items[4].number),
                                   static_cast<uint64_t>(items[1].number), &size)) {
            fail();
        }
        storage_(std::string(items[2].text), size);
        push(Value::Kind::storage, items[4].number);
    }

    void global() {
        const std::string module = line();
        const std::string name = line();
        const int64_t size = module == "torch" ? element_size(name) : 0;
        push(size > 0 ? Value::Kind::type : Value::Kind::other, size);
    }

    void put(uint64_t place) {
        if (stack_.empty() || place >= text_.size()) { // torch makes room for all before it
            fail();
        }
        memo_[place] = stack_.back();
    }

    void get(uint64_t place) {
        const auto at = memo_.find(place);
        if (at == memo_.end()) {
            fail();
        }
        stack_.push_back(at->second);
    }

    // One instruction; false after the last.
    bool step() {
        using Kind = Value::Kind;
        switch (static_cast<char>(number(1))) {
        case '.':
            return false;
        case '(':
            marks_.push_back(stack_.size());
            break;
        case ']': // an empty list
        case '}': // an empty dictionary
        case 'N':
        case '\x88': // true
        case '\x89':
            push();
            break;
        case 'K':
            push(Kind::integer, static_cast<int64_t>(number(1)));
            break;
        case 'M':
            push(Kind::integer, static_cast<int64_t>(number(2)));
            break;
        case 'J':
            push(Kind::integer, static_cast<int32_t>(number(4)));
            break;
        case '\x8a': // torch writes eight bytes and reads no other number
            if (number(1) != 8) {
                fail();
            }
            push(Kind::integer, static_cast<int64_t>(number(8)));
            break;
        case 'G':
            bytes(8);
            push();
            break;
        case 'X': {
            const std::string_view text = bytes(number(4));
            push(Kind::text, 0, text);
            break;
        }
        case ')':
            tuple({});
            break;
        case 't':
            tuple(above_mark(0));
            break;
        case '\x85':
            tuple(popped(1));
            break;
        case '\x86':
            tuple(popped(2));
            break;
        case '\x87':
            tuple(popped(3));
            break;
        case 'l': // a list, a dictionary of what is above the mark
        case 'd':
            above_mark(0);
            push();
            break;
        case 'e': // appended to a list, set in a dictionary, below the mark
        case 'u':
            above_mark(1);
            break;
        case 's':
            popped(2);
            if (stack_.empty()) {
                fail();
            }
            break;
        case 'q':
            put(number(1));
            break;
        case 'r':
            put(number(4));
            break;
        case 'h':
            get(number(1));
            break;
        case 'j':
            get(number(4));
            break;
        case 'c':
            global();
            break;
        case '\x81': // a new object: its class stays, for the state that follows
            pop();
            break;
        case 'R':
        case 'b':
            popped(2);
            push();
            break;
        case 'Q':
            persistent();
            break;
        default:
            at_--;
            fail();
        }
        return true;
    }

    std::string name_;
    std::string_view text_;
    size_t at_ = 0;
    Storage storage_;
    std::vector<Value> stack_;
    std::vector<size_t> marks_;
    std::map<uint64_t, Value> memo_;
};

} // namespace

TorchArchive::TorchArchive(std::string_view data) {
    const char *what =
        "not a TorchScript archive, or a damaged one: export the model with torch.jit.save";
    if (!zip_.open(data) || zip_.entries().empty()) {
        throw std::runtime_error(what);
    }
    const std::string &first = zip_.entries()[0].name;
    folder_ = first.substr(0, first.find('/') + 1);
    const std::string code = folder_ + "code/";
    const auto &all = zip_.entries();
    if (folder_.empty() || !find("constants.pkl") ||
        std::none_of(all.begin(), all.end(), [&](const Zip::Entry &entry) {
            return entry.name.compare(0, code.size(), code) == 0;
        })) {
        throw std::runtime_error(what);
    }
}

const Zip::Entry *TorchArchive::find(const std::string &name) const {
    const auto &all = zip_.entries();
    const auto at = std::find_if(all.begin(), all.end(), [&](const Zip::Entry &entry) {
        return entry.name.size() == folder_.size() + name.size() &&
               entry.name.compare(0, folder_.size(), folder_) == 0 &&
               entry.name.compare(folder_.size(), name.size(), name) == 0;
    });
    return at == all.end() ? nullptr : &*at;
}

void TorchArchive::check_tensors(const std::string &pickle, const std::string &folder) const {
    const Zip::Entry *entry = find(pickle);
    if (!entry) {
        return;
    }
    const auto storage = [&](const std::string &name, uint64_t size) {
        const Zip::Entry *record = find(folder + name);
        if (!record && size > 0) {
            throw std::runtime_error("its record " + folder + name + " is missing" + kAgain);
        }
        if (record && record->size < size) {
            throw std::runtime_error("its record " + folder + name + " has " +
                                     std::to_string(record->size) + " bytes and the tensor in it " +
                                     std::to_string(size) + kAgain);
        }
    };
    std::string text;
    read(*entry, text);
    Pickle(pickle, text, storage).run();
}

void TorchArchive::check() const {
    for (const Zip::Entry &entry : zip_.entries()) {
        if (!intact(entry)) {
            const bool own = entry.name.compare(0, folder_.size(), folder_) == 0;
            throw std::runtime_error("its record " + entry.name.substr(own ? folder_.size() : 0) +
                                     " does not have the checksum it should have" + kAgain);
        }
    }
    check_tensors("constants.pkl", "constants/");
    check_tensors("data.pkl", "data/");
}

} // namespace tds
