// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The tag, its tracks' times and the choice of the model, from Python.
#include "bindings/tag.h"

#include "bindings/errors.h"
#include "tds/tds.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace tds_python {
namespace {

using Rational = std::pair<int32_t, int32_t>;
using Runs = std::vector<std::pair<int64_t, int64_t>>;

tds_rational rational(const Rational &r) {
    return {r.first, r.second};
}

Rational pair(tds_rational r) {
    return {r.num, r.den};
}

tds_role role_of(const py::object &object) {
    const py::object value = py::hasattr(object, "value") ? object.attr("value") : object;
    const auto text = py::str(value).cast<std::string>();
    if (text == "hr" || text == "HR") {
        return TDS_HR;
    }
    if (text == "lr" || text == "LR") {
        return TDS_LR;
    }
    raise(PyExc_ValueError, "role is 'hr' or 'lr', not '" + text + "'");
}

py::list lines(const std::string &text) {
    py::list all;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        all.append(text_of(text.substr(at, end - at)));
        at = end + 1;
    }
    return all;
}

// ----------------------------------------------------------------- tag --

class Tag {
  public:
    Tag(const std::string &json, const std::string &where) {
        tds_tag *tag = nullptr;
        check(tds_tag_parse(json.data(), json.size(), where.c_str(), &tag));
        tag_ = {tag, tds_tag_free};
        check(tds_tag_read(tag, &values_));
    }

    const tds_tag *get() const { return tag_.get(); }
    const tds_tag_values &values() const { return values_; }

    Runs runs(tds_runs which) const {
        const int64_t *pairs = nullptr;
        const size_t count = tds_tag_runs(tag_.get(), which, &pairs);
        Runs all;
        for (size_t i = 0; i < count; i++) {
            all.emplace_back(pairs[2 * i], pairs[2 * i + 1]);
        }
        return all;
    }

    py::tuple frames(int64_t first, std::optional<int64_t> most) const {
        const int64_t left = std::max<int64_t>(values_.frames - std::max<int64_t>(first, 0), 0);
        const int64_t count = std::clamp<int64_t>(most.value_or(left), 0, left);
        py::array_t<int64_t> times(count);
        py::array_t<bool> lr(count), leads(count);
        py::array_t<float> strengths(count);
        constexpr int64_t block = 4096;
        std::vector<tds_tag_frame> frames(static_cast<size_t>(std::min(block, count)));
        for (int64_t at = 0; at < count; at += block) {
            const size_t n = tds_tag_frames(tag_.get(), first + at, frames.data(),
                                            static_cast<size_t>(std::min(block, count - at)));
            for (size_t i = 0; i < n; i++) {
                const auto to = at + static_cast<int64_t>(i);
                times.mutable_at(to) = frames[i].time;
                lr.mutable_at(to) = frames[i].role == TDS_LR;
                leads.mutable_at(to) = frames[i].lead != 0;
                strengths.mutable_at(to) = frames[i].strength;
            }
        }
        return py::make_tuple(times, lr, leads, strengths);
    }

  private:
    std::shared_ptr<tds_tag> tag_;
    tds_tag_values values_{};
};

// --------------------------------------------------------------- times --

class Times {
  public:
    Times(std::shared_ptr<Tag> tag, const Rational &unit, const Rational &hr_clock,
          const Rational &lr_clock, std::optional<int64_t> offset)
        : tag_(std::move(tag)) {
        tds_times_settings settings{};
        settings.tag = tag_ ? tag_->get() : nullptr;
        settings.unit = rational(unit);
        settings.clock[TDS_HR] = rational(hr_clock);
        settings.clock[TDS_LR] = rational(lr_clock);
        settings.offset = offset.value_or(0);
        settings.offset_known = offset.has_value();
        tds_times *times = nullptr;
        check(tds_times_open(&settings, &times));
        times_ = {times, tds_times_close};
    }

    void show(const py::object &role, int64_t pts) {
        check(tds_times_show(times_.get(), role_of(role), pts));
    }
    void push(const py::object &role, int64_t pts) {
        check(tds_times_push(times_.get(), role_of(role), pts));
    }
    void end(const py::object &role) { check(tds_times_end(times_.get(), role_of(role))); }

    // None: the stream has ended; an empty tuple: push more.
    py::object next(const py::object &role) {
        tds_event event;
        const tds_result result = check(tds_times_next(times_.get(), role_of(role), &event));
        if (result == TDS_END) {
            return py::none();
        }
        if (result == TDS_AGAIN) {
            return py::tuple();
        }
        return py::make_tuple(event.kind == TDS_EVENT_LOST, event.pts, event.frame, event.strength);
    }

    py::frozenset wants(const py::object &role) const {
        const unsigned bits = tds_times_wants(times_.get(), role_of(role));
        py::set roles;
        if (bits & 1U << TDS_HR) {
            roles.add("hr");
        }
        if (bits & 1U << TDS_LR) {
            roles.add("lr");
        }
        return py::frozenset(roles);
    }

    py::dict report() const {
        tds_times_report r;
        check(tds_times_info(times_.get(), &r));
        py::dict all;
        for (const tds_role role : {TDS_HR, TDS_LR}) {
            const std::string name = role == TDS_HR ? "hr" : "lr";
            all[("lost_" + name).c_str()] = r.lost[role];
            all[("unplanned_" + name).c_str()] = r.unplanned[role];
            all[("shift_" + name).c_str()] = r.shift[role];
        }
        all["late"] = r.late;
        all["early"] = r.early;
        all["planned"] = r.planned;
        return all;
    }

    py::list notices() const { return lines(tds_times_notices(times_.get())); }

  private:
    std::shared_ptr<Tag> tag_; // outlives times_
    std::shared_ptr<tds_times> times_;
};

Rational frame_rate(const std::vector<int64_t> &times, const Rational &time_base) {
    tds_rational rate;
    check(tds_frame_rate(times.data(), times.size(), rational(time_base), &rate));
    return pair(rate);
}

// -------------------------------------------------------------- models --

struct Choice {
    std::string path, name;
    std::optional<std::string> hr_path;
    bool of_tag;
    py::list notices;
};

Choice choose_model(int32_t scale, const py::object &model,
                    const std::optional<std::string> &sha256, const std::shared_ptr<Tag> &tag,
                    const std::string &device, const std::vector<py::object> &folders, bool weights,
                    bool refine_hr) {
    std::string path;
    for (const py::object &folder : folders) {
        path += (path.empty() ? "" : ":") + path_of(folder);
    }
    tds_model_request request{};
    const std::string name = path_of(model);
    request.model = model.is_none() ? nullptr : name.c_str();
    request.sha256 = sha256 ? sha256->c_str() : nullptr;
    request.tag = tag ? tag->get() : nullptr;
    request.scale = scale;
    request.device = device.c_str();
    request.folders = path.c_str();
    request.weights = weights;
    request.refine_hr = refine_hr;
    const auto choice = std::make_unique<tds_model_choice>();
    tds_result result;
    {
        const py::gil_scoped_release no_gil; // it hashes files, and may load torch
        result = tds_model_choose(&request, choice.get());
    }
    if (result == TDS_ERROR_MODEL && (model.is_none() || is_missing(name))) {
        raise(PyExc_FileNotFoundError, tds_last_error());
    }
    check(result);
    const std::string hr = choice->hr_path;
    return {choice->path, choice->name, hr.empty() ? std::nullopt : std::optional(hr),
            choice->of_tag != 0, lines(choice->notices)};
}

std::optional<std::string> optional(const char *text) {
    return text ? std::optional<std::string>(text) : std::nullopt;
}

} // namespace

void bind_tag(py::module_ &m) {
    m.attr("MAX_TAG") = TDS_MAX_TAG;
    m.attr("MAX_FRAMES") = TDS_MAX_FRAMES;
    m.attr("MAX_RUNS") = TDS_MAX_RUNS;
    m.attr("RATE_PICTURES") = TDS_RATE_PICTURES;

    using V = tds_tag_values;
    py::class_<Tag, std::shared_ptr<Tag>> tag(m, "Tag");
    tag.def(py::init<const std::string &, const std::string &>(), py::arg("json"),
            py::arg("where"));
    const auto number = [&](const char *name, auto member) {
        tag.def_property_readonly(name, [member](const Tag &t) { return t.values().*member; });
    };
    number("scale", &V::scale);
    number("width", &V::width);
    number("height", &V::height);
    number("bit_depth", &V::bit_depth);
    number("hr_qp", &V::hr_qp);
    number("lr_qp", &V::lr_qp);
    number("group", &V::group);
    number("start", &V::start);
    number("end", &V::end);
    number("n_frames", &V::frames);
    number("n_hr", &V::hr_frames);
    number("n_lr", &V::lr_frames);
    number("n_leads", &V::leads);
    const auto flag = [&](const char *name, auto member) {
        tag.def_property_readonly(name, [member](const Tag &t) { return t.values().*member != 0; });
    };
    flag("shared", &V::shared);
    flag("refine_hr", &V::refine_hr);
    flag("has_strengths", &V::has_strengths);
    flag("times_known", &V::times_known);
    flag("regular", &V::regular);
    const auto word = [&](const char *name, auto member) {
        tag.def_property_readonly(
            name, [member](const Tag &t) { return std::string(t.values().*member); });
    };
    word("codec", &V::codec);
    word("config", &V::config);
    word("encoder", &V::encoder);
    word("preset", &V::preset);
    tag.def_property_readonly("model", [](const Tag &t) { return optional(t.values().model); });
    tag.def_property_readonly("model_sha256",
                              [](const Tag &t) { return optional(t.values().model_sha256); });
    tag.def_property_readonly("time_base", [](const Tag &t) { return pair(t.values().time_base); });
    tag.def_property_readonly("rate", [](const Tag &t) { return pair(t.values().rate); });
    const auto runs = [&](const char *name, tds_runs which) {
        tag.def_property_readonly(name, [which](const Tag &t) { return t.runs(which); });
    };
    runs("groups", TDS_RUNS_GROUPS);
    runs("leads", TDS_RUNS_LEADS);
    runs("deltas", TDS_RUNS_DELTAS);
    runs("strengths", TDS_RUNS_STRENGTHS);
    tag.def("frames", &Tag::frames, py::arg("first") = 0, py::arg("count") = py::none());

    py::class_<Times>(m, "Times")
        .def(py::init<std::shared_ptr<Tag>, const Rational &, const Rational &, const Rational &,
                      std::optional<int64_t>>(),
             py::arg("tag").none(true), py::arg("unit"), py::arg("hr_clock"), py::arg("lr_clock"),
             py::arg("offset") = py::none())
        .def("show", &Times::show, py::arg("role"), py::arg("pts"))
        .def("push", &Times::push, py::arg("role"), py::arg("pts"))
        .def("end", &Times::end, py::arg("role"))
        .def("next", &Times::next, py::arg("role"))
        .def("wants", &Times::wants, py::arg("role"))
        .def("report", &Times::report)
        .def_property_readonly("notices", &Times::notices);

    m.def("frame_rate", &frame_rate, py::arg("times"), py::arg("time_base"));

    py::class_<Choice>(m, "ModelChoice")
        .def_property_readonly("path", [](const Choice &c) { return name_of(c.path); })
        .def_readonly("name", &Choice::name)
        .def_property_readonly("hr_path",
                               [](const Choice &c) {
                                   return c.hr_path ? name_of(*c.hr_path) : py::object(py::none());
                               })
        .def_readonly("of_tag", &Choice::of_tag)
        .def_readonly("notices", &Choice::notices);
    m.def("choose_model", &choose_model, py::arg("scale"), py::arg("model") = py::none(),
          py::kw_only(), py::arg("sha256") = py::none(), py::arg("tag") = py::none(),
          py::arg("device") = "auto", py::arg("folders") = std::vector<py::object>{},
          py::arg("weights") = false, py::arg("refine_hr") = false);
}

} // namespace tds_python
