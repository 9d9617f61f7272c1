// SPDX-License-Identifier: LGPL-2.1-or-later
//
// As much of a test framework as these tests need.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
    const char *name;
    std::function<void()> body;
};
inline std::vector<Test> &tests() {
    static std::vector<Test> all;
    return all;
}
struct Registration {
    Registration(const char *name, std::function<void()> body) {
        tests().push_back({name, std::move(body)});
    }
};
struct Failed {};

inline void fail(const char *file, int line, const std::string &what) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
    throw Failed{};
}

template <typename A, typename B>
void equal(const char *file, int line, const char *expression, const A &a, const B &b) {
    if (!(a == b)) {
        std::ostringstream text;
        text << expression << "\n  is     " << a << "\n  not    " << b;
        fail(file, line, text.str());
    }
}

inline int run(int argc, char **argv) {
    int failures = 0;
    for (const Test &test : tests()) {
        if (argc > 1 && std::string(test.name).find(argv[1]) == std::string::npos) {
            continue;
        }
        try {
            test.body();
            std::printf("ok      %s\n", test.name);
        } catch (const Failed &) {
            std::printf("FAILED  %s\n", test.name);
            failures++;
        }
    }
    return failures ? 1 : 0;
}

} // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(name)                                                                                 \
    static void CHECK_JOIN(test_, __LINE__)();                                                     \
    static const check::Registration CHECK_JOIN(registration_,                                     \
                                                __LINE__)(name, CHECK_JOIN(test_, __LINE__));      \
    static void CHECK_JOIN(test_, __LINE__)()
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check::fail(__FILE__, __LINE__, "not true: " #condition);                              \
    } while (false)
#define CHECK_EQ(a, b) check::equal(__FILE__, __LINE__, #a, (a), (b))
